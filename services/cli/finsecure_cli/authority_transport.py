"""Calls about intermediate authorities; answers come back as documents."""

import uuid
from typing import Any

from finsecure.keyservice.v1 import authorities_pb2, authorities_pb2_grpc

from finsecure_cli.convert import Document, document
from finsecure_cli.transport import PAGE, Services


async def list_authorities(services: Services) -> list[Document]:
    """List all authorities, newest first."""
    return await services.pages(
        lambda token: services.keys(
            authorities_pb2_grpc.AuthorityServiceStub,
            "ListAuthorities",
            authorities_pb2.ListAuthoritiesRequest(page_size=PAGE, page_token=token),
        ),
        "authorities",
    )


async def prepare_authority(services: Services) -> Document:
    """Make the next authority's key and request, or find those that wait."""
    return await _step(services, "PrepareAuthority")


async def install_authority(services: Services, authority: str, certificate: bytes) -> Document:
    """Bring the certificate that the root has made."""
    return await _step(services, "InstallAuthority", name=_name(authority), certificate=certificate)


async def activate_authority(services: Services, authority: str, *, force: bool) -> Document:
    """Let an authority issue."""
    return await _step(services, "ActivateAuthority", name=_name(authority), force=force)


async def taint_authority(services: Services, authority: str, reason: str) -> Document:
    """Have the certificates of a former authority renewed early."""
    return await _step(services, "TaintAuthority", name=_name(authority), reason=reason)


async def revoke_authority(
    services: Services, authority: str, reason: str, *, force: bool
) -> Document:
    """End belief in an authority."""
    fields = {"name": _name(authority), "reason": reason, "force": force}
    return await _step(services, "RevokeAuthority", **fields)


async def _step(services: Services, method: str, **fields: Any) -> Document:
    request = getattr(authorities_pb2, f"{method}Request")(request_id=str(uuid.uuid4()), **fields)
    answer = await services.keys(authorities_pb2_grpc.AuthorityServiceStub, method, request)
    return document(answer.authority)


def _name(authority: str) -> str:
    return f"authorities/{authority.rpartition('/')[2]}"
