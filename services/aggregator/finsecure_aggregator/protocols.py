"""From a task's terms to the protocol of its rounds."""

from finsecure_crypto.federation import (
    Encryption,
    Masking,
    encrypted_round_parameters,
    round_attempt,
    round_parameters,
)

from finsecure_aggregator.encrypted_round import EncryptedRound
from finsecure_aggregator.instructions import EncryptedInvitation, Invitation
from finsecure_aggregator.masked_round import MaskedRound
from finsecure_aggregator.plan import Plan
from finsecure_aggregator.round_protocol import RoundProtocol
from finsecure_aggregator.surroundings import Surroundings


async def open_protocol(around: Surroundings, plan: Plan, invitation: Invitation) -> RoundProtocol:
    """Make the protocol of a round, at its beginning.

    Raises:
        FinSecureError: the round is impossible, or its key is not to be had.
    """
    record = invitation.round
    attempt = round_attempt(
        plan.terms.at_least(record.minimum_cohort),
        task_name=plan.name,
        spec=plan.spec,
        kind=record.kind,
        number=record.key.number,
        attempt=record.key.attempt,
        attempt_nonce=record.nonce,
        model_digest=invitation.base_model.sha256,
        invited=len(record.invited),
    )
    verify = around.verifier.for_round()
    match plan.terms.protection:
        case Masking() as masking:
            parameters = round_parameters(attempt, masking)
            return MaskedRound(invitation, parameters, verify, around.blobs, around.slices)
        case Encryption(key_name=name) as encryption:
            key = await around.encryption.keys.key(name)
            return EncryptedRound(
                EncryptedInvitation(invitation, key.digest),
                encrypted_round_parameters(attempt, encryption, key.digest),
                verify,
                around.blobs,
                around.encryption,
                key,
                await around.encryption.workers.shape(key.file, attempt.layout),
                around.clock,
            )
