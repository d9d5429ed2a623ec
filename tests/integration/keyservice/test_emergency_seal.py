"""Sealing as an emergency stop: it works when the audit log does not, for officers alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from finsecure.keyservice.v1 import seal_pb2, seal_pb2_grpc
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import ConflictError, PermissionDeniedError, UnavailableError
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.audit.trail import Trail
from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.local_api_keys import issue_locally
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.seal.unlocking import unlock
from finsecure_keyservice.seal.unsealing import Unsealed, Unsealing
from finsecure_keyservice.serving import opened
from finsecure_rpc.connection import Connection
from finsecure_rpc.enrolment import enrol
from finsecure_rpc.identity_store import IdentityStore
from sqlalchemy.exc import DatabaseError, OperationalError

from tests.support.keyservice_deployment import new_id
from tests.support.sealed import Sealed

FAILURES = [
    UnavailableError("AUDIT_MIRROR_BEHIND", "the second copy is away"),
    OperationalError("INSERT", None, Exception("database or disk is full")),
    DatabaseError("INSERT", None, Exception("database disk image is malformed")),
]


@dataclass
class Running:
    """An unsealed service with an officer and an operator."""

    unsealed: Unsealed
    officer: Connection
    operator: Connection

    async def seal(self, caller: Connection, reason: str, request_id: str = "") -> int:
        request = seal_pb2.SealRequest(reason=reason, request_id=request_id or new_id())
        answer = await caller.call(caller.stub(seal_pb2_grpc.SealServiceStub).Seal, request)
        return answer.status.state


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    made = Sealed.found(tmp_path, system_clock)
    files = unlock(made.configuration, made.share_files)
    olivia = MemberName(None, Role.OFFICER, "olivia")
    issue_locally(made.configuration, olivia, tmp_path / "olivia.key", system_clock(), files)
    return made


@asynccontextmanager
async def running(sealed: Sealed, folder: Path) -> AsyncIterator[Running]:
    unsealing = Unsealing(sealed.configuration.protected_by)
    for share in sealed.shares[:2]:
        unsealing.give(share.expose(), "ipv4:127.0.0.1")
    unsealed = unsealing.unsealed
    assert unsealed is not None
    root = (sealed.configuration.state_dir / "root.pem").read_bytes()
    async with opened(sealed.configuration, system_clock, unsealed) as server:
        await server.start()
        people = []
        for name, key in (("olivia", folder / "olivia.key"), ("alice", sealed.api_key)):
            if not (folder / name).exists():
                secret = SecretBytes(key.read_bytes().strip())
                await enrol(f"127.0.0.1:{server.ports[1]}", root, secret, folder / name)
            store = IdentityStore(folder / name)
            people.append(Connection(f"127.0.0.1:{server.ports[0]}", store, Role.KEYSERVICE))
        try:
            yield Running(unsealed, *people)
        finally:
            for each in people:
                await each.close()
            await server.stop(0.2)


async def test_it_seals_though_the_log_cannot_be_written(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for failure in FAILURES:

        def fails(self: Trail, *_: object, failure: Exception = failure, **__: object) -> None:
            raise failure

        async with running(sealed, tmp_path) as service:
            with monkeypatch.context() as full:
                full.setattr(Trail, "record", fails)
                state = await service.seal(service.officer, "an intruder filled the disk")
            assert state == seal_pb2.SEAL_STATE_SEALED
            assert service.unsealed.sealing.is_set()
    events = sealed.events()
    assert "service.seal" not in {event.action for event in events}


async def test_who_may_not_seal_does_not_whether_the_log_is_full_or_not(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Trail, *_: object, **__: object) -> None:
        raise FAILURES[0]

    async with running(sealed, tmp_path) as service:
        with pytest.raises(PermissionDeniedError, match="ROLE_NOT_ALLOWED"):
            await service.seal(service.operator, "no officer")
        monkeypatch.setattr(Trail, "_append", fails)
        with pytest.raises(PermissionDeniedError, match="ROLE_NOT_ALLOWED"):
            await service.seal(service.operator, "no officer")
        assert not service.unsealed.sealing.is_set()


async def test_a_repeated_call_seals_what_was_unsealed_since_and_is_recorded_again(
    sealed: Sealed, tmp_path: Path
) -> None:
    request_id = new_id()
    for _ in range(2):  # the second time as after a reply that was lost with the process
        async with running(sealed, tmp_path) as service:
            state = await service.seal(service.officer, "drill", request_id)
            assert state == seal_pb2.SEAL_STATE_SEALED
            assert service.unsealed.sealing.is_set()
    async with running(sealed, tmp_path) as service:
        with pytest.raises(ConflictError, match="REQUEST_ID_CONFLICT"):
            await service.seal(service.officer, "another reason", request_id)
        assert not service.unsealed.sealing.is_set()
    actions = [event.action for event in sealed.events()]
    assert actions.count("service.seal") == 2
