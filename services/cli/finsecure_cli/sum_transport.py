"""An operator's calls about audited sums; answers come back as documents."""

import asyncio
import uuid
from collections.abc import Sequence

from finsecure.aggregation.v1 import sums_pb2, sums_pb2_grpc
from finsecure_rpc.validation import check_message

from finsecure_cli.convert import Document, document, duration
from finsecure_cli.transport import PAGE, Services

_STUB = sums_pb2_grpc.AuditedSumServiceStub
_UNFINISHED = ("collecting", "opening")
_POLL_S = 1.0


async def create_sum(
    services: Services,
    sum_: str,
    labels: Sequence[str],
    *,
    description: str,
    maximum: int,
    minimum_contributors: int,
    maximum_contributors: int,
    key: str,
    collecting_s: float,
    opening_s: float,
) -> Document:
    """Ask for contributions.

    Raises:
        InvalidArgumentError: INVALID_MESSAGE, naming each term that is out of bounds.
    """
    request = sums_pb2.CreateSumRequest(
        name=_name(services, sum_),
        spec=sums_pb2.SumSpec(
            description=description,
            labels=labels,
            maximum=maximum,
            minimum_contributors=minimum_contributors,
            maximum_contributors=maximum_contributors,
            encryption_key=key if "/" in key else f"{services.federation}/encryptionKeys/{key}",
            collecting=duration(collecting_s),
            opening=duration(opening_s),
        ),
        request_id=str(uuid.uuid4()),
    )
    check_message(request)
    return document((await services.aggregator(_STUB, "CreateSum", request)).sum)


async def list_sums(services: Services) -> list[Document]:
    """List the federation's sums, without labels, totals and contributors."""
    return await services.pages(
        lambda token: services.aggregator(
            _STUB,
            "ListSums",
            sums_pb2.ListSumsRequest(parent=services.federation, page_size=PAGE, page_token=token),
        ),
        "sums",
    )


async def get_sum(services: Services, sum_: str) -> Document:
    """Read one sum, by its id or its resource name."""
    request = sums_pb2.GetSumRequest(name=_name(services, sum_))
    return document((await services.aggregator(_STUB, "GetSum", request)).sum)


async def open_sum(services: Services, sum_: str) -> Document:
    """Have a sum opened, and wait until it has ended."""
    request = sums_pb2.OpenSumRequest(name=_name(services, sum_), request_id=str(uuid.uuid4()))
    found = document((await services.aggregator(_STUB, "OpenSum", request)).sum)
    while found["state"] in _UNFINISHED:
        await asyncio.sleep(_POLL_S)
        found = await get_sum(services, sum_)
    return found


async def cancel_sum(services: Services, sum_: str) -> Document:
    """End a sum without totals."""
    request = sums_pb2.CancelSumRequest(name=_name(services, sum_), request_id=str(uuid.uuid4()))
    return document((await services.aggregator(_STUB, "CancelSum", request)).sum)


def _name(services: Services, sum_: str) -> str:
    return sum_ if "/" in sum_ else f"{services.federation}/sums/{sum_}"
