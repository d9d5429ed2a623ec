"""The gRPC service of a trustee: convert, let the logic decide, convert back.

Who calls has been established, and whether they may, before anything here runs.
"""

# ruff: noqa: N802  (method names are those of the protos)

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import trustee_pb2, trustee_pb2_grpc
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.homomorphic.decryption import (
    Contribution,
    DecryptionRequest,
    partial_decryption,
)
from finsecure_rpc.identity_store import IdentityProvider

from finsecure_keyservice.decisions import calling
from finsecure_keyservice.trustee import convert
from finsecure_keyservice.trustee.adding import Piece
from finsecure_keyservice.trustee.ceremonies import Ceremonies
from finsecure_keyservice.trustee.dealt_shares import DealtShares
from finsecure_keyservice.trustee.holdings import Holdings
from finsecure_keyservice.trustee.opening import Openings
from finsecure_keyservice.trustee.records import Opening
from finsecure_keyservice.trustee.room import ManifestRoom

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Requests = AsyncIterator[trustee_pb2.PartiallyDecryptRequest]


@dataclass(frozen=True)
class Desk:
    """What the service works with.

    Attributes:
        openings: answers requests to open sums.
        holdings: the shares.
        ceremonies: makes shares.
        dealt_shares: takes shares in.
        identities: this trustee's newest identity.
    """

    openings: Openings
    holdings: Holdings
    ceremonies: Ceremonies
    dealt_shares: DealtShares
    identities: IdentityProvider


class TrusteeService(trustee_pb2_grpc.TrusteeServiceServicer):
    """Partial decryptions and ceremonies."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._room = ManifestRoom()

    async def PartiallyDecrypt(
        self, request_iterator: Requests, context: Context
    ) -> AsyncIterator[trustee_pb2.PartiallyDecryptResponse]:
        """See the proto."""
        caller = calling()
        request = convert.decryption_request(await _header(request_iterator))
        async with self._room.taken(request.contributions):
            async with self._desk.openings.refusing(caller, request):
                manifest = await _manifest(request_iterator, request)
            opening = await self._desk.openings.answered(caller, request)
            if opening is None:
                held = await self._desk.openings.admit(caller, request, manifest)
                yield convert.wanted()
                opening = await self._desk.openings.open(
                    caller, request, manifest, held, _pieces(request_iterator)
                )
            del manifest  # its room is given to the next one now
        yield await self._description(opening)
        for response in convert.partial_chunks(opening.partial):
            yield response

    async def _description(self, opening: Opening) -> trustee_pb2.PartiallyDecryptResponse:
        holder = await self._desk.openings.holder(opening)
        identity = self._desk.identities.current()
        statement = partial_decryption(
            opening.request_digest, holder, len(opening.partial), opening.sha256
        )
        return trustee_pb2.PartiallyDecryptResponse(
            partial=trustee_pb2.PartialDecryption(
                trustee=identity.spiffe_id.id,
                holder=holder,
                size_bytes=len(opening.partial),
                sha256=opening.sha256,
                signature=identity.signing_key.sign(*statement),
                certificate=identity.signing_certificate,
            )
        )

    async def GetTrustee(
        self, request: trustee_pb2.GetTrusteeRequest, context: Context
    ) -> trustee_pb2.GetTrusteeResponse:
        """See the proto."""
        return trustee_pb2.GetTrusteeResponse(
            card=convert.card_message(await self._desk.holdings.card(calling()))
        )

    async def AdvanceCeremony(
        self, request: trustee_pb2.AdvanceCeremonyRequest, context: Context
    ) -> trustee_pb2.AdvanceCeremonyResponse:
        """See the proto."""
        message, held = await self._desk.ceremonies.advance(
            calling(),
            convert.ceremony(request.ceremony),
            request.step,
            [convert.ceremony_message(item) for item in request.messages],
        )
        response = trustee_pb2.AdvanceCeremonyResponse()
        if message is not None:
            response.message.CopyFrom(convert.ceremony_answer(message))
        if held is not None:
            endorsement = self._desk.holdings.endorse(held)
            response.endorsement.CopyFrom(convert.endorsement(endorsement))
            response.public_key = held.public_key
        return response

    async def ImportShare(
        self, request: trustee_pb2.ImportShareRequest, context: Context
    ) -> trustee_pb2.ImportShareResponse:
        """See the proto."""
        dealt = convert.dealt_share(request)
        held = await self._desk.dealt_shares.take_in(calling(), dealt)
        return trustee_pb2.ImportShareResponse(
            endorsement=convert.endorsement(self._desk.holdings.endorse(held))
        )

    async def EndorseKey(
        self, request: trustee_pb2.EndorseKeyRequest, context: Context
    ) -> trustee_pb2.EndorseKeyResponse:
        """See the proto."""
        endorsement = await self._desk.holdings.endorse_again(calling(), request.encryption_key)
        return trustee_pb2.EndorseKeyResponse(endorsement=convert.endorsement(endorsement))


async def _header(requests: Requests) -> trustee_pb2.DecryptionRequest:
    first = await anext(requests, None)
    if first is None or not first.HasField("header"):
        raise IntegrityError("STREAM_ORDER", "the first message says what is to be opened")
    return first.header


async def _manifest(requests: Requests, request: DecryptionRequest) -> list[Contribution]:
    manifest: list[Contribution] = []
    while len(manifest) < request.contributions:
        message = await anext(requests, None)
        if message is None or not message.HasField("manifest"):
            raise IntegrityError("STREAM_ORDER", "the whole manifest comes after the header")
        manifest += convert.contributions(message.manifest)
    return manifest


async def _pieces(requests: Requests) -> AsyncIterator[Piece]:
    async for message in requests:
        if not message.HasField("chunk"):
            raise IntegrityError("STREAM_ORDER", "only ciphertexts come after the manifest")
        yield convert.piece(message.chunk)


def services(desk: Desk) -> list[tuple[Callable[[Any, Any], None], object]]:
    """The service with the generated function that adds it to a server."""
    return [(trustee_pb2_grpc.add_TrusteeServiceServicer_to_server, TrusteeService(desk))]
