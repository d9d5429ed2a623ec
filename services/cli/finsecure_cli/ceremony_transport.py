"""Carrying messages between trustees: the operator's side of a key ceremony.

Nothing that is carried can be read where it is secret, nor changed. What there is to remember
between two steps is the next request itself, so a ceremony that was interrupted goes on from a
file of it.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from finsecure.keyservice.v1 import (
    certificates_pb2,
    certificates_pb2_grpc,
    encryption_keys_pb2,
    trustee_pb2,
    trustee_pb2_grpc,
)
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import ConfigurationError, ConflictError, IntegrityError, StateError
from finsecure_crypto.homomorphic.ceremony import TrusteeCard
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.scheme import key_digest
from finsecure_rpc.connection import Connection
from finsecure_rpc.durable import write_file
from finsecure_rpc.identity_store import IdentityStore
from google.protobuf import json_format

from finsecure_cli.convert import Document
from finsecure_cli.dealer import Cards, DealtKey
from finsecure_cli.key_transport import (
    get_key,
    key_name,
    list_keys,
    register_key,
    renew_endorsements,
)
from finsecure_cli.settings import OperatorSettings, trustee_unknown
from finsecure_cli.transport import Services

_CALL_S = 55.0
_MOST_STEPS = 16
_MOST_FILE_BYTES = 16 << 20
_MODES = {
    "paillier": encryption_keys_pb2.ENCRYPTION_MODE_PAILLIER,
    "bgv": encryption_keys_pb2.ENCRYPTION_MODE_BGV,
    "ckks": encryption_keys_pb2.ENCRYPTION_MODE_CKKS,
}
THRESHOLD = 2
"""Trustees that open a sum of a key that was made without a dealer."""


class Trustees:
    """Connections to all trustees that the operator's configuration names.

    Args:
        settings: the operator's configuration.

    Raises:
        ConfigurationError: TRUSTEES_MISSING.
    """

    def __init__(self, settings: OperatorSettings) -> None:
        if len(settings.trustees) < THRESHOLD:
            raise ConfigurationError(
                "TRUSTEES_MISSING",
                "the operator's configuration names no trustees; add [[trustees]] with the id and "
                "the address of each",
            )
        identities = IdentityStore(settings.identity_dir)
        self._connections = {
            trustee.id: Connection(
                trustee.address, identities, Role.TRUSTEE, federation=settings.federation
            )
            for trustee in settings.trustees
        }
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Trustees":
        for connection in self._connections.values():
            await self._stack.enter_async_context(connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ask(self, trustee: str, method: str, request: Any) -> Any:
        """Call one trustee.

        Raises:
            ConfigurationError: TRUSTEE_UNKNOWN for one that the configuration does not name.
        """
        connection = self._connections.get(trustee)
        if connection is None:
            raise trustee_unknown(trustee)
        stub = connection.stub(trustee_pb2_grpc.TrusteeServiceStub)
        return await connection.call(getattr(stub, method), request, deadline_s=_CALL_S)

    async def cards(self) -> list[trustee_pb2.TrusteeCard]:
        """Fetch the card of each trustee.

        Raises:
            IntegrityError: TRUSTEE_MISMATCH where another trustee answers than was named.
        """
        names = sorted(self._connections)
        answers = await asyncio.gather(
            *(self.ask(name, "GetTrustee", trustee_pb2.GetTrusteeRequest()) for name in names)
        )
        for name, answer in zip(names, answers, strict=True):
            if answer.card.trustee != name:
                raise IntegrityError(
                    "TRUSTEE_MISMATCH",
                    f"at the address of {name} the trustee {answer.card.trustee} answers; correct "
                    "the operator's configuration",
                )
        return [answer.card for answer in answers]


async def run_ceremony(
    services: Services,
    trustees: Trustees,
    key: str,
    mode: str,
    file: Path,
    say: Callable[[str], None],
) -> Document:
    """Let the trustees make a key among themselves, and register it.

    Args:
        services: connected to the key service.
        trustees: connected to all trustees.
        key: id of the new key.
        mode: `bgv` or `ckks`.
        file: where the state between two steps is kept; a ceremony that is there goes on.
        say: is told of each step.

    Raises:
        StateError: CEREMONY_OTHER where the file holds the ceremony of another key.
        FinSecureError: what a trustee or the key service says.
    """
    name = key_name(services.federation, key)
    request = _resumed(file, name, mode)
    if request is None:
        ceremony = trustee_pb2.Ceremony(
            encryption_key=name,
            mode=_MODES[mode],
            nonce=os.urandom(32),
            trustees=await trustees.cards(),
        )
        request = trustee_pb2.AdvanceCeremonyRequest(ceremony=ceremony, step=1)
    names = [card.trustee for card in request.ceremony.trustees]
    while True:
        _keep(file, request)
        answers = await asyncio.gather(
            *(trustees.ask(trustee, "AdvanceCeremony", request) for trustee in names)
        )
        say(f"step {request.step}: {', '.join(names)}")
        if all(answer.HasField("endorsement") for answer in answers):
            break
        if request.step == _MOST_STEPS:
            raise StateError("CEREMONY_ENDLESS", "the ceremony does not end; begin a new one")
        request = trustee_pb2.AdvanceCeremonyRequest(
            ceremony=request.ceremony,
            step=request.step + 1,
            messages=[answer.message for answer in answers],
        )
    public_keys = {answer.public_key for answer in answers}
    if len(public_keys) != 1:
        raise IntegrityError(
            "CEREMONY_MISMATCH", "the trustees did not make the same key; begin a new ceremony"
        )
    registered = await _register(
        services,
        name,
        request.ceremony.mode,
        encryption_keys_pb2.KEY_GENERATION_DISTRIBUTED,
        THRESHOLD,
        public_keys.pop(),
        [answer.endorsement for answer in answers],
    )
    await asyncio.to_thread(file.unlink)
    return registered


async def fetch_cards(services: Services, trustees: Trustees) -> Cards:
    """Fetch what a dealer has to take along: cards, authorities and the revocation list."""
    answer = await services.keys(
        certificates_pb2_grpc.CertificateServiceStub,
        "GetRevocationList",
        certificates_pb2.GetRevocationListRequest(),
    )
    return Cards(
        trust_domain=services.trust_domain,
        intermediates=services.anchors.intermediates,
        revocation_list=answer.crl,
        cards=tuple(
            TrusteeCard(card.trustee, card.sealing_key, card.signature, card.certificate)
            for card in await trustees.cards()
        ),
    )


async def import_dealt(services: Services, trustees: Trustees, dealt: DealtKey) -> Document:
    """Hand each sealed share to its trustee, and register the key that all have signed.

    Raises:
        FinSecureError: what a trustee or the key service says; it may be run again.
    """
    mode = _MODES[dealt.mode.value]
    answers = await asyncio.gather(
        *(
            trustees.ask(
                share.trustee,
                "ImportShare",
                trustee_pb2.ImportShareRequest(
                    encryption_key=dealt.key_name,
                    mode=mode,
                    public_key=dealt.public_key,
                    sealed_share=share.sealed,
                    holder=holder,
                ),
            )
            for holder, share in enumerate(dealt.shares, 1)
        )
    )
    return await _register(
        services,
        dealt.key_name,
        mode,
        encryption_keys_pb2.KEY_GENERATION_DEALER,
        dealt.threshold,
        dealt.public_key,
        [answer.endorsement for answer in answers],
    )


async def endorse_again(services: Services, trustees: Trustees, key: str | None) -> list[Document]:
    """Let the holders of keys sign for them under their present certificates.

    Args:
        services: connected to the key service.
        trustees: connected to all trustees.
        key: id of one key; None means all that are enabled.

    Raises:
        StateError: ENDORSEMENT_TAINTED while a trustee has not renewed yet.
        FinSecureError: what a trustee or the key service says; it may be run again.
    """
    if key is None:
        found = [item for item in await list_keys(services) if item["state"] == "enabled"]
    else:
        found = [await get_key(services, key)]
    renewed = []
    for known in found:
        request = trustee_pb2.EndorseKeyRequest(encryption_key=known["name"])
        holders = [item["trustee"] for item in known["endorsements"]]
        answers = await asyncio.gather(
            *(trustees.ask(holder, "EndorseKey", request) for holder in holders)
        )
        endorsements = [answer.endorsement for answer in answers]
        renewed.append(await renew_endorsements(services, known["name"], endorsements))
    return renewed


async def _register(
    services: Services,
    name: str,
    mode: encryption_keys_pb2.EncryptionMode.ValueType,
    generation: encryption_keys_pb2.KeyGeneration.ValueType,
    threshold: int,
    public_key: bytes,
    endorsements: Sequence[encryption_keys_pb2.KeyEndorsement],
) -> Document:
    digest = _digest(mode, public_key)
    message = encryption_keys_pb2.EncryptionKey(
        name=name,
        mode=mode,
        generation=generation,
        holders=len(endorsements),
        threshold=threshold,
        digest=digest,
        size_bytes=len(public_key),
        endorsements=endorsements,
    )
    try:
        return await register_key(services, message, public_key)
    except ConflictError:
        # Perhaps it was this ceremony that registered it, and the answer was lost.
        known = await get_key(services, name)
        if known["digest"] != digest.hex():
            raise
        return known


def _digest(mode: encryption_keys_pb2.EncryptionMode.ValueType, public_key: bytes) -> bytes:
    name = next(name for name, value in _MODES.items() if value == mode)
    return key_digest(Mode(name), public_key)


def _keep(file: Path, request: trustee_pb2.AdvanceCeremonyRequest) -> None:
    write_file(file, json_format.MessageToJson(request).encode())


def _resumed(file: Path, name: str, mode: str) -> trustee_pb2.AdvanceCeremonyRequest | None:
    if not file.exists():
        return None
    try:
        with file.open("rb") as stream:
            text = stream.read(_MOST_FILE_BYTES)
        request = json_format.Parse(text, trustee_pb2.AdvanceCeremonyRequest())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            "CEREMONY_FILE_DAMAGED", f"{file} is no ceremony; delete it and begin anew"
        ) from error
    if (request.ceremony.encryption_key, request.ceremony.mode) != (name, _MODES[mode]):
        raise StateError(
            "CEREMONY_OTHER", f"{file} is the ceremony of another key; name another file"
        )
    return request
