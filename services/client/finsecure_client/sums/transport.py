"""The aggregator's audited sums as this client calls them; the only place with their stubs."""

from collections.abc import AsyncIterator
from uuid import uuid4

from finsecure.aggregation.v1 import sums_pb2, sums_pb2_grpc
from finsecure_crypto.errors import ProtocolViolationError
from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.homomorphic.sums import SumTerms
from finsecure_rpc.connection import Connection

from finsecure_client.sums import convert
from finsecure_client.sums.terms import AuditedSum, SumSummary

_CALL_S = 30.0
_CONTRIBUTE_S = 60.0
_WATCH_S = 3600.0
_PAGE = 100
_MAX_PAGES = 1000


class SumService:
    """The aggregator over one connection.

    Every method raises `UnavailableError` where it cannot be reached, and otherwise what the
    aggregator answers; nothing here repeats a call.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _stub(self) -> "sums_pb2_grpc.AuditedSumServiceAsyncStub":
        return self._connection.stub(sums_pb2_grpc.AuditedSumServiceStub)

    async def create(
        self, name: str, terms: SumTerms, description: str, collecting_s: float, opening_s: float
    ) -> AuditedSum:
        """Ask for contributions."""
        request = sums_pb2.CreateSumRequest(
            name=name,
            spec=convert.spec(terms, description, collecting_s, opening_s),
            request_id=str(uuid4()),
        )
        response = await self._connection.call(self._stub().CreateSum, request, deadline_s=_CALL_S)
        return convert.audited_sum(response.sum)

    async def get(self, name: str) -> AuditedSum:
        """Read one sum."""
        response = await self._connection.call(
            self._stub().GetSum, sums_pb2.GetSumRequest(name=name), deadline_s=_CALL_S
        )
        return convert.audited_sum(response.sum)

    async def list(self, federation: str) -> list[SumSummary]:
        """Read all sums of a federation, in the order of their names."""
        found: list[SumSummary] = []
        token = ""
        for _ in range(_MAX_PAGES):
            page = await self._connection.call(
                self._stub().ListSums,
                sums_pb2.ListSumsRequest(
                    parent=f"federations/{federation}", page_size=_PAGE, page_token=token
                ),
                deadline_s=_CALL_S,
            )
            found += convert.summaries(page.sums)
            token = page.next_page_token
            if not token:
                return found
        raise ProtocolViolationError("MESSAGE_INVALID", "the aggregator's list of sums has no end")

    async def contribute(self, name: str, header: EncryptedInputHeader, ciphertexts: bytes) -> None:
        """Send a contribution."""
        await self._connection.call(
            self._stub().Contribute,
            convert.contribution(name, header, ciphertexts),
            deadline_s=_CONTRIBUTE_S,
        )

    async def open(self, name: str) -> AuditedSum:
        """Have the totals opened."""
        request = sums_pb2.OpenSumRequest(name=name, request_id=str(uuid4()))
        response = await self._connection.call(self._stub().OpenSum, request, deadline_s=_CALL_S)
        return convert.audited_sum(response.sum)

    async def cancel(self, name: str) -> AuditedSum:
        """End a sum without totals."""
        request = sums_pb2.CancelSumRequest(name=name, request_id=str(uuid4()))
        response = await self._connection.call(self._stub().CancelSum, request, deadline_s=_CALL_S)
        return convert.audited_sum(response.sum)

    async def watch(self, name: str) -> AsyncIterator[AuditedSum]:
        """Yield the sum whenever it changes, until it ends."""
        request = sums_pb2.WatchSumRequest(name=name)
        async for response in self._connection.stream(
            self._stub().WatchSum, request, deadline_s=_WATCH_S
        ):
            yield convert.audited_sum(response.sum)
