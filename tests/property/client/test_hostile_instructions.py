"""Whatever an aggregator sends, a client reads it or says that it breaks the contract."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from finsecure.aggregation.v1 import models_pb2, participation_pb2, tasks_pb2
from finsecure_client import convert
from finsecure_client.instructions import EncryptedInvitation, Invitation
from finsecure_crypto.errors import InvalidArgumentError, ProtocolViolationError
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings

from tests.support.client import TASK, task_message
from tests.support.hostile import Hostile

HOSTILE = Hostile(["bank-a", TASK, f"{TASK}/rounds/1-1", f"{TASK}/models/0", "toy:build"])
MODEL = models_pb2.Model(name=f"{TASK}/models/0", sha256=bytes(32), signature=bytes(64))
MODEL.create_time.seconds = 1_800_000_000


def instructions() -> Iterator[participation_pb2.WatchResponse]:
    advertisement = participation_pb2.KeyAdvertisement(
        client="bank-a",
        channel_key=bytes(32),
        mask_key=bytes(32),
        signature=bytes(64),
        certificate=b"x",
    )
    entry = participation_pb2.RosterEntry(index=1, advertisement=advertisement)
    invitation = participation_pb2.RoundInvitation(
        task=task_message(),
        kind=tasks_pb2.ROUND_KIND_TRAINING,
        number=1,
        attempt=1,
        attempt_nonce=bytes(32),
        base_model=MODEL,
        invited=5,
    )
    encrypted = participation_pb2.EncryptedRoundInvitation(
        invitation=invitation, encryption_key_digest=bytes(32)
    )
    encrypted.invitation.task.spec.security.CopyFrom(
        tasks_pb2.SecuritySpec(
            protection=tasks_pb2.PROTECTION_BGV,
            encryption_key="federations/lending/encryptionKeys/first",
        )
    )
    for body in (
        {"advertise_keys": invitation},
        {"encrypt_input": encrypted},
        {"share_keys": participation_pb2.Roster(size=3, root=bytes(32), entries=[entry])},
        {"submit_input": participation_pb2.ShareDelivery(sharers=b"\x07", ciphertexts=bytes(216))},
        {"confirm_survivors": participation_pb2.Survivors(survivors=b"\x07")},
        {"reveal_shares": participation_pb2.Confirmations(signers=b"\x02", signatures=bytes(64))},
    ):
        made = participation_pb2.WatchResponse(round=f"{TASK}/rounds/1-1", **body)
        made.deadline.seconds = 1_800_000_000
        yield made


GOOD = {
    "WatchResponse": list(instructions()),
    "Task": [task_message()],
    "Model": [MODEL],
}


def read(message: Message) -> None:
    with suppress(ProtocolViolationError):
        if isinstance(message, models_pb2.Model):
            convert.signed_model(message)
        elif isinstance(message, tasks_pb2.Task):
            convert.task_status(message)
        else:
            body = convert.instruction(message).body
            if isinstance(body, EncryptedInvitation):
                body = body.invitation
            if isinstance(body, Invitation):
                with suppress(InvalidArgumentError):  # impossible, which the caller says of it
                    body.attempt_at()


KINDS = [participation_pb2.WatchResponse, tasks_pb2.Task, models_pb2.Model]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_a_violation_comes_out(kind: type[Message]) -> None:
    search(kind, 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_a_violation_comes_out_for_longer(kind: type[Message]) -> None:
    search(kind, 1500)


def search(kind: type[Message], examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(HOSTILE.any_of(kind.DESCRIPTOR, GOOD))
    def run(message: Message) -> None:
        read(message)

    run()
