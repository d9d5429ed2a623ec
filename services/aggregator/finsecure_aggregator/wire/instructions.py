"""Instructions to clients on the wire."""

from finsecure.aggregation.v1 import participation_pb2, tasks_pb2
from finsecure_crypto.secagg import messages
from finsecure_rpc.key_advertisements import advertisement_to_wire

from finsecure_aggregator.instructions import (
    EncryptedInvitation,
    Instruction,
    Invitation,
    Outcome,
)
from finsecure_aggregator.records import RoundKey
from finsecure_aggregator.wire.models import model_to_wire
from finsecure_aggregator.wire.rounds import KINDS, state_to_wire
from finsecure_aggregator.wire.times import timestamp


class InstructionWriter:
    """Makes the wire's form of instructions; what many clients are shown is made once a round."""

    def __init__(self) -> None:
        self._entries: dict[RoundKey, dict[int, participation_pb2.RosterEntry]] = {}

    def write(self, item: Instruction) -> participation_pb2.WatchResponse:
        """Make the wire's form of an instruction."""
        if not isinstance(item.body, messages.Roster):
            self._entries.pop(item.key, None)  # the phase of rosters is over
            return _instruction(item)
        made = self._entries.setdefault(item.key, {})
        for entry in item.body.entries:
            if entry.index not in made:
                made[entry.index] = participation_pb2.RosterEntry(
                    index=entry.index,
                    advertisement=advertisement_to_wire(entry.advertisement),
                    inclusion_proof=entry.inclusion_proof,
                )
        proto = _instruction(item)
        proto.share_keys.entries.extend([made[entry.index] for entry in item.body.entries])
        return proto


def _instruction(item: Instruction) -> participation_pb2.WatchResponse:
    proto = participation_pb2.WatchResponse(
        round=item.key.name, deadline=timestamp(item.deadline_ns)
    )
    match item.body:
        case Invitation():
            proto.advertise_keys.CopyFrom(_invitation(item.body))
        case EncryptedInvitation(invitation, key_digest):
            proto.encrypt_input.invitation.CopyFrom(_invitation(invitation))
            proto.encrypt_input.encryption_key_digest = key_digest
        case messages.Roster() as roster:
            proto.share_keys.size = roster.size
            proto.share_keys.root = roster.root
            proto.share_keys.index = roster.index
        case messages.ShareDelivery() as delivery:
            proto.submit_input.sharers = delivery.sharers
            proto.submit_input.ciphertexts = delivery.ciphertexts
        case bytes() as survivors:
            proto.confirm_survivors.survivors = survivors
        case messages.Confirmations() as confirmations:
            proto.reveal_shares.signers = confirmations.signers
            proto.reveal_shares.signatures = confirmations.signatures
        case Outcome() as outcome:
            proto.outcome.state = state_to_wire(outcome.state)
            proto.outcome.reason = outcome.reason
            proto.outcome.detail = outcome.detail
    return proto


def _invitation(item: Invitation) -> participation_pb2.RoundInvitation:
    record = item.round
    # Only what never changes and what the client needs: the receiver may be any of the invited.
    return participation_pb2.RoundInvitation(
        task=tasks_pb2.Task(
            name=item.task.name, spec=tasks_pb2.TaskSpec.FromString(item.task.spec)
        ),
        kind=KINDS[record.kind],
        number=record.key.number,
        attempt=record.key.attempt,
        attempt_nonce=record.nonce,
        base_model=model_to_wire(item.base_model),
        invited=len(record.invited),
        minimum_cohort=record.minimum_cohort,
    )
