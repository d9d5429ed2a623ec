"""A follower's checkpoints are of one log, also when answers are held back and others save."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from finsecure.keyservice.v1 import audit_pb2
from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import LogSigner
from finsecure_crypto.errors import IntegrityError, NotFoundError, UnavailableError
from finsecure_crypto.log_keys import ANNOUNCE
from finsecure_crypto.merkle import tree_hash
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.log_memory import LogMemory, Remembered

from tests.reference.merkle import consistency_proof, inclusion_proof

ORIGIN = "finsecure.test/audit"
FIRST, SECOND = (LogSigner.from_seed(ORIGIN, SecretBytes(bytes([n]) * 32)) for n in (1, 2))


def _leaf(index: int, subject: str = "x", **details: str) -> bytes:
    action = ANNOUNCE if details else "member.create"
    time = datetime(2030, 1, 1, tzinfo=UTC)
    return Event(index, time, action, ORIGIN if details else subject, "", details=details).encode()


ANNOUNCED = _leaf(2, key=SECOND.verifier.serialise(), former=FIRST.verifier.serialise())
TRUNK = [_leaf(0)]
FORK = [*TRUNK, _leaf(1, "fork")]
OTHER = [*TRUNK, _leaf(1, "other"), _leaf(2, "other")]
LONGER = [*FORK, _leaf(2), _leaf(3)]
ROTATED = [*FORK, ANNOUNCED, _leaf(3), _leaf(4)]


def _note(leaves: Sequence[bytes], *signers: LogSigner) -> str:
    signer, *others = signers or (FIRST,)
    return signer.sign(len(leaves), tree_hash(leaves), *others)


HANDOVER = _note(ROTATED[:3], FIRST, SECOND)


class KeyService:
    """In place of a `Connection`: answers with any checkpoint, and proves what can be proved.

    Args:
        branches: histories; a proof is of the one that has its size, or else of the longest.
        notes: checkpoints to answer with, one after the other, the last again and again.
        meanwhile: what somebody else saves while the checkpoint is held back.
    """

    def __init__(
        self, *branches: Sequence[bytes], notes: Sequence[str], meanwhile: Remembered | None = None
    ) -> None:
        self._branches = {len(branch): branch for branch in branches}
        self._notes = list(notes)
        self._meanwhile = meanwhile
        self._path = Path()
        self.calls: list[str] = []

    def stub(self, factory: object) -> "KeyService":
        return self

    async def call(self, method: Callable[[Any], Any], request: Any) -> Any:
        self.calls.append(method.__name__)
        answer = method(request)
        await asyncio.sleep(0)
        return answer

    def follower(self, path: Path) -> LogFollower:
        self._path = path
        return LogFollower(cast("Connection", self), LogMemory(path))

    def GetCheckpoint(  # noqa: N802
        self, request: audit_pb2.GetCheckpointRequest
    ) -> audit_pb2.GetCheckpointResponse:
        if self._meanwhile is not None:
            LogMemory(self._path).save(self._meanwhile)
        note = self._notes.pop(0) if len(self._notes) > 1 else self._notes[0]
        key = FIRST if FIRST.verifier.has_signed(note) else SECOND
        return audit_pb2.GetCheckpointResponse(
            checkpoint=note, verifier_key=key.verifier.serialise()
        )

    def GetConsistencyProof(  # noqa: N802
        self, request: audit_pb2.GetConsistencyProofRequest
    ) -> audit_pb2.GetConsistencyProofResponse:
        longest = self._branches[max(self._branches)]
        leaves = self._branches.get(request.second_size, longest[: request.second_size])
        return audit_pb2.GetConsistencyProofResponse(
            hashes=consistency_proof(leaves, request.first_size)
        )

    def GetKeyHandover(  # noqa: N802
        self, request: audit_pb2.GetKeyHandoverRequest
    ) -> audit_pb2.GetKeyHandoverResponse:
        if request.verifier_key != FIRST.verifier.serialise():
            raise NotFoundError("KEY_HANDOVER_NOT_FOUND", "that key handed nothing over")
        return audit_pb2.GetKeyHandoverResponse(
            event=audit_pb2.AuditEvent(index=2, leaf=ANNOUNCED),
            checkpoint=HANDOVER,
            hashes=inclusion_proof(ROTATED[:3], 2),
        )


def _saved(leaves: Sequence[bytes], *signers: LogSigner) -> Remembered:
    return Remembered((signers or (FIRST,))[0].verifier, _note(leaves, *signers))


async def test_two_calls_at_once_are_not_shown_two_branches(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    LogMemory(path).save(_saved(TRUNK))
    service = KeyService(FORK, OTHER, notes=[_note(FORK), _note(OTHER)])
    follower = service.follower(path)
    first, second = await asyncio.gather(
        follower.advance(), follower.advance(), return_exceptions=True
    )
    assert not isinstance(first, BaseException)
    assert first.size == len(FORK)
    assert isinstance(second, IntegrityError)
    assert second.code == "AUDIT_LOG_FORKED"
    assert LogMemory(path).load() == _saved(FORK)


@pytest.mark.parametrize("known", [_saved(TRUNK), None], ids=["known", "first-contact"])
@pytest.mark.parametrize(("shown", "saved"), [(FORK, OTHER), (OTHER, FORK)])
async def test_two_processes_are_not_shown_two_branches(
    tmp_path: Path, known: Remembered | None, shown: list[bytes], saved: list[bytes]
) -> None:
    path = tmp_path / "audit.json"
    if known is not None:
        LogMemory(path).save(known)
    service = KeyService(shown, saved, notes=[_note(shown)], meanwhile=_saved(saved))
    with pytest.raises(IntegrityError, match="AUDIT_LOG_FORKED"):
        await service.follower(path).advance()
    assert LogMemory(path).load() == _saved(saved)


@pytest.mark.parametrize("known", [_saved(TRUNK), None], ids=["known", "first-contact"])
@pytest.mark.parametrize(("shown", "saved"), [(2, 4), (4, 2), (3, 3)])
async def test_two_processes_that_follow_one_log_remember_the_longer(
    tmp_path: Path, known: Remembered | None, shown: int, saved: int
) -> None:
    path = tmp_path / "audit.json"
    if known is not None:
        LogMemory(path).save(known)
    service = KeyService(LONGER, notes=[_note(LONGER[:shown])], meanwhile=_saved(LONGER[:saved]))
    assert (await service.follower(path).advance()).size == shown
    assert LogMemory(path).load() == _saved(LONGER[: max(shown, saved)])


GONE_OVER = Remembered(SECOND.verifier, _note(ROTATED[:4], SECOND), frozenset([FIRST.verifier]))
AT_HANDOVER = Remembered(SECOND.verifier, HANDOVER, frozenset([FIRST.verifier]))


@pytest.mark.parametrize("saved", [GONE_OVER, AT_HANDOVER], ids=["gone-over", "at-handover"])
@pytest.mark.parametrize("late", [_note(FORK), HANDOVER], ids=["before", "handover"])
async def test_a_late_answer_of_a_former_key_does_not_bring_it_back(
    tmp_path: Path, saved: Remembered, late: str
) -> None:
    path = tmp_path / "audit.json"
    LogMemory(path).save(_saved(TRUNK))
    service = KeyService(ROTATED, notes=[late], meanwhile=saved)
    checkpoint = await service.follower(path).advance()
    assert checkpoint == FIRST.verifier.open(late)
    assert LogMemory(path).load() == saved


async def test_a_former_key_that_signs_further_is_refused_when_others_know_the_next(
    tmp_path: Path,
) -> None:
    path = tmp_path / "audit.json"
    LogMemory(path).save(_saved(TRUNK))
    service = KeyService(ROTATED, notes=[_note(ROTATED)], meanwhile=GONE_OVER)
    with pytest.raises(IntegrityError, match="AUDIT_KEY_RETIRED"):
        await service.follower(path).advance()
    assert LogMemory(path).load() == GONE_OVER


async def test_former_keys_that_either_knows_stay_former(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    LogMemory(path).save(_saved(TRUNK))
    fresh = _saved(ROTATED[:4], SECOND)  # of somebody who came after the rotation
    note = _note(ROTATED, SECOND)
    await KeyService(ROTATED, notes=[note], meanwhile=fresh).follower(path).advance()
    former = frozenset([FIRST.verifier])
    assert LogMemory(path).load() == Remembered(SECOND.verifier, note, former)


async def test_a_memory_that_never_rests_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"

    class Restless(LogMemory):
        def exchange(self, expected: Remembered | None, known: Remembered) -> bool:
            size = expected.size if expected else 0
            self.save(_saved(LONGER[: 1 + size % 3]))
            return super().exchange(expected, known)

    follower = LogFollower(
        cast("Connection", KeyService(LONGER, notes=[_note(LONGER)])), Restless(path)
    )
    with pytest.raises(UnavailableError, match="AUDIT_MEMORY_BUSY"):
        await follower.advance()


async def test_what_nobody_else_follows_costs_no_call_more(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    LogMemory(path).save(_saved(TRUNK))
    service = KeyService(FORK, notes=[_note(FORK)])
    follower = service.follower(path)
    await follower.advance()
    assert service.calls == ["GetCheckpoint", "GetConsistencyProof"]
    await follower.advance()
    assert service.calls == ["GetCheckpoint", "GetConsistencyProof", "GetCheckpoint"]


def test_a_memory_that_others_changed_is_not_replaced(tmp_path: Path) -> None:
    memory, other = LogMemory(tmp_path / "audit.json"), LogMemory(tmp_path / "audit.json")
    assert memory.exchange(None, _saved(TRUNK))
    assert not other.exchange(None, _saved(OTHER))
    assert not other.exchange(_saved(FORK), _saved(OTHER))
    assert not other.exchange(_saved(OTHER), _saved(OTHER))
    assert memory.load() == _saved(TRUNK)
    assert other.exchange(_saved(TRUNK), _saved(FORK))
    assert memory.load() == _saved(FORK)


def test_a_memory_of_before_any_rotation_has_no_former_keys(tmp_path: Path) -> None:
    memory = LogMemory(tmp_path / "audit.json")
    memory.save(_saved(TRUNK))
    data = json.loads(memory.path.read_bytes())
    del data["former_keys"]
    memory.path.write_text(json.dumps(data))
    assert memory.load() == _saved(TRUNK)
