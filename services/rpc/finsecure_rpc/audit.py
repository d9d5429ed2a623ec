"""Following the audit log of the key service, or of a trustee, without believing it.

A follower remembers the log's key and its newest checkpoint in a file, and demands of each new
checkpoint that the log only grew. The key is the one that it was given, or the one that it saw at
its first contact, over a connection on which that service proved its identity.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from finsecure.keyservice.v1 import audit_pb2, audit_pb2_grpc
from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import Checkpoint, LogVerifier
from finsecure_crypto.errors import ConfigurationError, FinSecureError, IntegrityError
from finsecure_crypto.log_verification import check_not_shorter, verify_event, verify_growth

from finsecure_rpc.connection import Connection
from finsecure_rpc.durable import write_file

_PAGE = 1000
_WATCH_S = 3600.0


@dataclass(frozen=True)
class Remembered:
    """What a follower knows of a log.

    Attributes:
        verifier: the log's key.
        note: the newest signed checkpoint, or empty before the first.
    """

    verifier: LogVerifier
    note: str = ""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint."""
        return self.verifier.open(self.note) if self.note else None


def trustee_log(trust_domain: str, trustee: str) -> str:
    """Name of the log of a trustee, from the trust domain of its federation and its id."""
    return f"{trust_domain}/trustee/{trustee}/audit"


class LogMemory:
    """A file that remembers a log across restarts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Remembered | None:
        """Read it; None before the first contact.

        Raises:
            ConfigurationError: AUDIT_MEMORY_DAMAGED; whoever changed the file.
        """
        try:
            data = json.loads(self.path.read_bytes())
            known = Remembered(LogVerifier.parse(data["verifier_key"]), data["checkpoint"])
            _ = known.checkpoint
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, FinSecureError) as error:
            raise ConfigurationError(
                "AUDIT_MEMORY_DAMAGED",
                f"{self.path} is damaged: restore it from a backup. Without it a log that was "
                "rolled back cannot be told from a true one.",
            ) from error
        return known

    def save(self, known: Remembered) -> None:
        """Replace it in one step."""
        data = {"verifier_key": known.verifier.serialise(), "checkpoint": known.note}
        write_file(self.path, json.dumps(data, indent=1).encode() + b"\n", mode=0o644)


class LogFollower:
    """Follows one log.

    Args:
        connection: to the service whose log it is.
        memory: what is remembered of the log.
        verifier: the log's key, where it was given out of band.
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

    async def advance(self) -> Checkpoint:
        """Fetch the newest checkpoint, demand that the log only grew, and remember it.

        Raises:
            IntegrityError: AUDIT_LOG_KEY_CHANGED, AUDIT_LOG_FOREIGN, CHECKPOINT_MALFORMED,
                CHECKPOINT_UNTRUSTED, AUDIT_LOG_ROLLED_BACK or AUDIT_LOG_FORKED: the log's fault;
                what was remembered stays.
            ConfigurationError: AUDIT_MEMORY_DAMAGED.
            UnavailableError: what a call raises.
        """
        known = self._memory.load()
        answer = await self._connection.call(
            self._stub().GetCheckpoint, audit_pb2.GetCheckpointRequest()
        )
        expected = self._expected(known, LogVerifier.parse(answer.verifier_key))
        return await self._accept(known, expected, answer.checkpoint)

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
            UnavailableError: what a call raises.
        """
        if self._memory.load() is None:
            await self.advance()
        known = self._memory.load()
        answer = await self._connection.call(
            self._stub().ProvePublication,
            audit_pb2.ProvePublicationRequest(subject=subject, sha256=sha256),
        )
        expected = self._expected(known)
        checkpoint = await self._accept(known, expected, answer.checkpoint)
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

    def _expected(
        self, known: Remembered | None, claimed: LogVerifier | None = None
    ) -> LogVerifier:
        keys = {self._pinned, known.verifier if known else None, claimed} - {None}
        if len(keys) != 1:
            raise IntegrityError(
                "AUDIT_LOG_KEY_CHANGED",
                "the audit log is signed with another key than before, or than the one you were "
                "given: ask the operator, and compare the key on a trusted way",
            )
        (key,) = keys
        assert key is not None  # noqa: S101  # None was taken away above
        if self._origin and key.origin != self._origin:
            raise IntegrityError(
                "AUDIT_LOG_FOREIGN",
                f"{key.origin} answers where {self._origin} was expected: correct the address",
            )
        return key

    async def _accept(
        self, known: Remembered | None, verifier: LogVerifier, note: str
    ) -> Checkpoint:
        newest = verifier.open(note)
        remembered = known.checkpoint if known else None
        if remembered is not None:
            await self._demand_growth(remembered, newest)
        # Somebody else may have followed the same log meanwhile, and further.
        present = self._memory.load()
        ahead = present.checkpoint if present else None
        if ahead is None or newest.size > ahead.size:
            self._memory.save(Remembered(verifier, note))
        return newest

    async def _demand_growth(self, remembered: Checkpoint, newest: Checkpoint) -> None:
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
