"""Following the audit log of the key service, or of a trustee, without believing it.

A follower remembers the log's key and its newest checkpoint in a file, and demands of each new
checkpoint that the log only grew. The key is the one that it was given, or the one that it saw at
its first contact, over a connection on which that service proved its identity. It goes over to
another key only where the one it knows has handed the log over to it. What others remember in the
same file meanwhile has to be of the same log too: a service that holds an answer back shows nobody
a branch of its own.
"""

import asyncio
from collections.abc import AsyncIterator

from finsecure.keyservice.v1 import audit_pb2, audit_pb2_grpc
from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import Checkpoint, LogVerifier
from finsecure_crypto.errors import IntegrityError, NotFoundError, UnavailableError
from finsecure_crypto.log_keys import Handover
from finsecure_crypto.log_verification import check_not_shorter, verify_event, verify_growth

from finsecure_rpc.connection import Connection
from finsecure_rpc.log_memory import LogMemory, Remembered

_PAGE = 1000
_WATCH_S = 3600.0
_MOST_KEYS = 100
_MOST_CHANGES = 10


def trustee_log(trust_domain: str, trustee: str) -> str:
    """Name of the log of a trustee, from the trust domain of its federation and its id."""
    return f"{trust_domain}/trustee/{trustee}/audit"


class LogFollower:
    """Follows one log.

    Args:
        connection: to the service whose log it is.
        memory: what is remembered of the log.
        verifier: the log's key, where it was given out of band: the present one, or one that
            handed over to it.
        origin: name that the log has to have, where more than one is followed.
    """

    def __init__(
        self,
        connection: Connection,
        memory: LogMemory,
        verifier: LogVerifier | None = None,
        origin: str = "",
    ) -> None:
        self._connection = connection
        self._memory = memory
        self._pinned = verifier
        self._origin = origin
        # From loading to saving; not while events are listed or watched, which saves nothing.
        self._turn = asyncio.Lock()

    async def advance(self) -> Checkpoint:
        """Fetch the newest checkpoint, demand that the log only grew, and remember it.

        Raises:
            IntegrityError: AUDIT_KEY_UNKNOWN, AUDIT_KEY_RETIRED, AUDIT_LOG_FOREIGN,
                CHECKPOINT_MALFORMED, AUDIT_LOG_ROLLED_BACK, AUDIT_LOG_FORKED or what
                `Handover.verify` raises: the log's fault; what was remembered stays.
            ConfigurationError: AUDIT_MEMORY_DAMAGED.
            UnavailableError: AUDIT_MEMORY_BUSY; what a call raises.
        """
        async with self._turn:
            known = self._memory.load()
            answer = await self._connection.call(
                self._stub().GetCheckpoint, audit_pb2.GetCheckpointRequest()
            )
            claimed = LogVerifier.parse(answer.verifier_key)
            return await self._accept(known, answer.checkpoint, claimed)

    async def verify_publication(self, subject: str, sha256: bytes) -> Event:
        """Demand that a digest was made public for a subject, in a log that only grew.

        Args:
            subject: resource name, such as that of an encryption key.
            sha256: digest of the public key, 32 bytes.

        Returns:
            The event; who made it public and when.

        Raises:
            NotFoundError: PUBLICATION_NOT_FOUND.
            IntegrityError: as `advance`; AUDIT_PROOF_INVALID, AUDIT_EVENT_MALFORMED.
            ConfigurationError: AUDIT_MEMORY_DAMAGED.
            UnavailableError: AUDIT_MEMORY_BUSY; what a call raises.
        """
        if self._memory.load() is None:
            await self.advance()
        async with self._turn:
            known = self._memory.load()
            answer = await self._connection.call(
                self._stub().ProvePublication,
                audit_pb2.ProvePublicationRequest(subject=subject, sha256=sha256),
            )
            checkpoint = await self._accept(known, answer.checkpoint)
        event = verify_event(checkpoint, answer.event.index, answer.event.leaf, list(answer.hashes))
        if event.subject != subject or event.details.get("sha256") != sha256.hex():
            raise IntegrityError(
                "AUDIT_PROOF_INVALID",
                f"the service proved event {event.index}, which is not the publication of "
                f"{subject}; do not use it, and tell the operator",
            )
        return event

    async def events(self, start: int = 0, subject: str = "") -> AsyncIterator[bytes]:
        """Yield the leaves of the log from an index on, as the service gives them. Operators only.

        Raises:
            FinSecureError: what a call raises.
        """
        token = ""
        while True:
            page = await self._connection.call(
                self._stub().ListEvents,
                audit_pb2.ListEventsRequest(
                    start=start, subject=subject, page_size=_PAGE, page_token=token
                ),
            )
            for event in page.events:
                yield event.leaf
            token = page.next_page_token
            if not token:
                return

    async def watch(self, start: int) -> AsyncIterator[tuple[list[bytes], str]]:
        """Yield new leaves as they come, with a signed checkpoint behind the newest.

        Operators only. The stream ends after an hour with DEADLINE_EXCEEDED; go on behind the
        last event then.

        Raises:
            FinSecureError: what a call raises.
        """
        responses = self._connection.stream(
            self._stub().WatchEvents,
            audit_pb2.WatchEventsRequest(start=start),
            deadline_s=_WATCH_S,
        )
        async for response in responses:
            yield [event.leaf for event in response.events], response.checkpoint

    async def _accept(
        self, known: Remembered | None, note: str, claimed: LogVerifier | None = None
    ) -> Checkpoint:
        """Demand that a checkpoint goes on from what is known, and remember it."""
        first = self._pinned or claimed
        start = known or (Remembered(first) if first else None)
        if start is None:
            raise _unknown()
        if self._origin and start.verifier.origin != self._origin:
            raise IntegrityError(
                "AUDIT_LOG_FOREIGN",
                f"{start.verifier.origin} answers where {self._origin} was expected: correct the "
                "address",
            )
        newest = await self._led(start, note)
        if self._pinned is not None and self._pinned not in {newest.verifier, *newest.former}:
            await self._led(Remembered(self._pinned), note)
        await self._remember(known, newest)
        return newest.verifier.open(note)

    async def _remember(self, known: Remembered | None, newest: Remembered) -> None:
        """Save what goes on from what is known; what others saved meanwhile has to agree."""
        for _ in range(_MOST_CHANGES):
            if self._memory.exchange(known, newest):
                return
            known = self._memory.load()
            if known is not None:
                newest = await self._joined(known, newest)
        raise UnavailableError(
            "AUDIT_MEMORY_BUSY",
            f"{self._memory.path} changes all the time: give each process an identity of its own, "
            "and try again",
        )

    async def _joined(self, saved: Remembered, newest: Remembered) -> Remembered:
        """The longer of two, after a proof that the log grew from the shorter to it."""
        behind, ahead = (saved, newest) if saved.size <= newest.size else (newest, saved)
        led = await self._led(behind, ahead.note)
        # A handover is signed by both keys: it leads back to none that is known to be former.
        verifier = ahead.verifier if led.verifier in ahead.former else led.verifier
        former = led.former | ahead.former | {led.verifier, ahead.verifier}
        return Remembered(verifier, ahead.note, former - {verifier})

    async def _led(self, known: Remembered, note: str) -> Remembered:
        """Follow the log from what is known to a newer checkpoint, from key to key."""
        verifier, checkpoint, former = known.verifier, known.checkpoint, known.former
        for _ in range(_MOST_KEYS):
            if verifier.has_signed(note):
                newest = verifier.open(note)
                await self._demand_growth(checkpoint, newest)
                return Remembered(verifier, note, former)
            if any(key.has_signed(note) for key in former):
                raise _retired()
            successor, handed_over = (await self._handover(verifier)).verify(verifier)
            if checkpoint is not None and checkpoint.size > handed_over.size:
                raise _retired()
            await self._demand_growth(checkpoint, handed_over)
            former |= {verifier}
            verifier, checkpoint = successor, handed_over
        raise _unknown()

    async def _handover(self, former: LogVerifier) -> Handover:
        try:
            answer = await self._connection.call(
                self._stub().GetKeyHandover,
                audit_pb2.GetKeyHandoverRequest(verifier_key=former.serialise()),
            )
        except NotFoundError as error:
            raise _unknown() from error
        return Handover(
            answer.event.index, answer.event.leaf, answer.checkpoint, list(answer.hashes)
        )

    async def _demand_growth(self, remembered: Checkpoint | None, newest: Checkpoint) -> None:
        if remembered is None:
            return
        check_not_shorter(remembered, newest)
        proof: list[bytes] = []
        if 0 < remembered.size < newest.size:
            answer = await self._connection.call(
                self._stub().GetConsistencyProof,
                audit_pb2.GetConsistencyProofRequest(
                    first_size=remembered.size, second_size=newest.size
                ),
            )
            proof = list(answer.hashes)
        verify_growth(remembered, newest, proof)

    def _stub(self) -> "audit_pb2_grpc.AuditServiceAsyncStub":
        return self._connection.stub(audit_pb2_grpc.AuditServiceStub)


def _unknown() -> IntegrityError:
    return IntegrityError(
        "AUDIT_KEY_UNKNOWN",
        "the audit log is not signed with the key that is known here, and that key announced no "
        "other: it was restored from before its key was announced, or it is another log. Trust "
        "nothing of it, keep your checkpoint, and ask the operator on a trusted way. Only if it "
        "has to be a new log: move audit.json away as evidence, and give the new key with --key",
    )


def _retired() -> IntegrityError:
    return IntegrityError(
        "AUDIT_KEY_RETIRED",
        "the audit log was signed with a key that had handed over to another: it was restored from "
        "before that, or somebody uses a former key; keep your checkpoint and ask the operator",
    )
