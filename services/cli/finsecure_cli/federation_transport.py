"""An operator's calls about federations; answers come back as documents."""

import uuid
from typing import Any

from finsecure.keyservice.v1 import members_pb2, members_pb2_grpc
from finsecure_crypto.certificates import Role
from finsecure_crypto.minimum_cohorts import MinimumCohorts
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.identity_store import IdentityStore
from google.protobuf.field_mask_pb2 import FieldMask

from finsecure_cli.convert import Document, document
from finsecure_cli.following import memory_of
from finsecure_cli.settings import OperatorSettings
from finsecure_cli.transport import PAGE, Services

_STUB = members_pb2_grpc.FederationServiceStub


async def create_federation(
    services: Services,
    federation: str,
    display_name: str,
    minimum_cohort: int,
    minimum_sum_cohort: int,
) -> Document:
    """Open a federation."""
    request = members_pb2.CreateFederationRequest(
        federation=members_pb2.Federation(
            name=federation_name(federation),
            display_name=display_name,
            minimum_cohort=minimum_cohort,
            minimum_sum_cohort=minimum_sum_cohort,
        ),
        request_id=str(uuid.uuid4()),
    )
    answer = await services.keys(_STUB, "CreateFederation", request)
    return document(answer.federation)


async def get_federation(services: Services, federation: str) -> Document:
    """Read a federation."""
    request = members_pb2.GetFederationRequest(name=federation_name(federation))
    answer = await services.keys(_STUB, "GetFederation", request)
    return document(answer.federation)


async def list_federations(services: Services) -> list[Document]:
    """List all federations."""
    return await services.pages(
        lambda token: services.keys(
            _STUB,
            "ListFederations",
            members_pb2.ListFederationsRequest(page_size=PAGE, page_token=token),
        ),
        "federations",
    )


async def update_federation(services: Services, federation: str, **minima: int | None) -> Document:
    """Change the minimum cohorts of a federation as it stands; None leaves one as it is.

    Raises:
        StateError: APPROVAL_REQUIRED where it lowers one.
        FinSecureError: what else the key service answers.
    """
    wanted: dict[str, Any] = {name: each for name, each in minima.items() if each is not None}
    before = await get_federation(services, federation)
    request = members_pb2.UpdateFederationRequest(
        federation=members_pb2.Federation(name=before["name"], etag=before["etag"], **wanted),
        update_mask=FieldMask(paths=sorted(wanted)),
        request_id=str(uuid.uuid4()),
    )
    answer = await services.keys(_STUB, "UpdateFederation", request)
    return document(answer.federation)


async def prove_minima(settings: OperatorSettings, found: Document) -> Document:
    """Demand that the minimum cohorts of a federation are published in the audit log.

    Returns:
        Index, time and caller of the event that published them.

    Raises:
        IntegrityError, NotFoundError: they are not; the key service's fault.
    """
    minima = MinimumCohorts(
        found["name"],
        int(found["revision"]),
        found["minimum_cohort"],
        found["minimum_sum_cohort"],
    )
    identities = IdentityStore(settings.identity_dir)
    async with Connection(settings.keyservice, identities, Role.KEYSERVICE) as connection:
        follower = LogFollower(connection, memory_of(settings))
        event = await follower.verify_publication(minima.federation, minima.digest())
    return {"index": event.index, "time": event.time.isoformat(), "caller": event.caller}


def federation_name(federation: str) -> str:
    """Return the resource name of a federation that is given by its id or its name."""
    return federation if "/" in federation else f"federations/{federation}"
