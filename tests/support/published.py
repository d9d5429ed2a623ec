"""What stand-ins for the key service publish: an audit log that grows, and a federation's minima.

>>> log = PublicLog()
>>> minima = FederationRegister(log)
>>> minima.demand(rounds=5)
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from finsecure.keyservice.v1 import audit_pb2, audit_pb2_grpc, members_pb2, members_pb2_grpc
from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import LogSigner
from finsecure_crypto.errors import NotFoundError
from finsecure_crypto.merkle import StoredTree, inclusion_proof, tree_hash
from finsecure_crypto.minimum_cohorts import MinimumCohorts
from finsecure_crypto.secret import SecretBytes

FEDERATION = "federations/lending"
_SERVICE = "/finsecure.keyservice.v1."


class PublicLog(audit_pb2_grpc.AuditServiceServicer):
    """An audit log with what the test has published."""

    def __init__(self) -> None:
        self._leaves: list[bytes] = []
        self._published: dict[tuple[str, bytes], int] = {}
        self._signer = LogSigner.from_seed("test-log", SecretBytes(bytes(32)))

    def publish(self, action: str, subject: str, digest: bytes) -> None:
        event = Event(
            len(self._leaves),
            datetime.now(UTC),
            action,
            subject,
            "spiffe://finsecure.internal/operator/alice",
            details={"sha256": digest.hex()},
        )
        self._published[subject, digest] = len(self._leaves)
        self._leaves.append(event.encode())

    @property
    def _note(self) -> str:
        return self._signer.sign(len(self._leaves), tree_hash(self._leaves))

    async def GetCheckpoint(  # noqa: N802
        self, request: audit_pb2.GetCheckpointRequest, context: Any
    ) -> audit_pb2.GetCheckpointResponse:
        return audit_pb2.GetCheckpointResponse(
            checkpoint=self._note, verifier_key=self._signer.verifier.serialise()
        )

    async def GetConsistencyProof(  # noqa: N802
        self, request: audit_pb2.GetConsistencyProofRequest, context: Any
    ) -> audit_pb2.GetConsistencyProofResponse:
        leaves = self._leaves[: request.second_size]

        def node(level: int, position: int) -> bytes:
            return tree_hash(leaves[position << level : (position + 1) << level])

        hashes = StoredTree(len(leaves), node).consistency_proof(request.first_size)
        return audit_pb2.GetConsistencyProofResponse(hashes=hashes)

    async def ProvePublication(  # noqa: N802
        self, request: audit_pb2.ProvePublicationRequest, context: Any
    ) -> audit_pb2.ProvePublicationResponse:
        index = self._published.get((request.subject, request.sha256))
        if index is None:
            raise NotFoundError("PUBLICATION_NOT_FOUND", "the log has no such publication")
        return audit_pb2.ProvePublicationResponse(
            event=audit_pb2.AuditEvent(index=index, leaf=self._leaves[index]),
            checkpoint=self._note,
            hashes=inclusion_proof(self._leaves, index),
        )


class FederationRegister(members_pb2_grpc.FederationServiceServicer):
    """Says the minimum cohorts of one federation, 2 and 2 unless the test demands more."""

    def __init__(self, log: PublicLog) -> None:
        self.log = log
        self.failure: Exception | None = None
        self.asked = 0
        self.demand(2, 2)

    def demand(
        self, rounds: int, sums: int = 2, *, revision: int | None = None, published: bool = True
    ) -> MinimumCohorts:
        """Change the minima; honest unless the test says otherwise."""
        if revision is None:
            revision = 1 if not hasattr(self, "minima") else self.minima.revision + 1
        self.minima = MinimumCohorts(FEDERATION, revision, rounds, sums)
        if published:
            self.log.publish("federation.update", FEDERATION, self.minima.digest())
        return self.minima

    async def GetFederation(  # noqa: N802
        self, request: members_pb2.GetFederationRequest, context: Any
    ) -> members_pb2.GetFederationResponse:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return members_pb2.GetFederationResponse(
            federation=members_pb2.Federation(
                name=request.name,
                minimum_cohort=self.minima.rounds,
                minimum_sum_cohort=self.minima.sums,
                revision=self.minima.revision,
            )
        )

    def services(self) -> Mapping[str, tuple[Any, Any]]:
        """What to add to a server: adder and servicer by the method that they serve."""
        audit = (audit_pb2_grpc.add_AuditServiceServicer_to_server, self.log)
        found: dict[str, tuple[Any, Any]] = {
            f"{_SERVICE}AuditService/{method}": audit
            for method in ("GetCheckpoint", "GetConsistencyProof", "ProvePublication")
        }
        federations = (members_pb2_grpc.add_FederationServiceServicer_to_server, self)
        found[f"{_SERVICE}FederationService/GetFederation"] = federations
        return found


class FixedMinima:
    """`Minima` that the test says."""

    def __init__(self, rounds: int = 2, sums: int = 2) -> None:
        self.demanded: MinimumCohorts | Exception = MinimumCohorts(FEDERATION, 1, rounds, sums)

    async def current(self) -> MinimumCohorts:
        if isinstance(self.demanded, Exception):
            raise self.demanded
        return self.demanded

    async def require_round(self, minimum: int) -> None:
        (await self.current()).require_round(minimum)

    async def require_sum(self, minimum: int) -> None:
        (await self.current()).require_sum(minimum)
