"""Trustees as the aggregator calls them; the only place with their generated stubs."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from finsecure.keyservice.v1 import trustee_pb2, trustee_pb2_grpc
from finsecure_crypto import signing
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.homomorphic.decryption import (
    DecryptionRequest,
    RoundSubject,
    Subject,
    partial_decryption,
)
from finsecure_rpc.connection import Connection

from finsecure_aggregator.encryption import Opening

_PAGE = 256
_CHUNK_BYTES = 1 << 20
_CALL_S = 3600.0  # the caller's patience ends it much sooner

VerifyTrustee = Callable[[str, bytes], bytes]
"""Checks that a certificate is a trustee's, and returns its Ed25519 public key."""


class RemoteTrustee:
    """One trustee over its connection.

    Args:
        trustee: its id.
        connection: to it.
        verify: checks its certificate.
    """

    def __init__(self, trustee: str, connection: Connection, verify: VerifyTrustee) -> None:
        self._id = trustee
        self._connection = connection
        self._verify = verify

    async def partially_decrypt(self, opening: Opening, holder: int) -> bytes:
        """Ask for a partial decryption; see `encryption.Trustee`.

        Raises:
            IntegrityError: PARTIAL_MALFORMED or PARTIAL_UNSIGNED; the trustee's fault.
            FinSecureError: what the trustee answers, or that it cannot be reached.
        """
        stub = self._connection.stub(trustee_pb2_grpc.TrusteeServiceStub)
        wanted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        described: trustee_pb2.PartialDecryption | None = None
        content = bytearray()
        most = 64 * opening.request.size_bytes + (1 << 20)
        try:
            async for response in self._connection.stream(
                stub.PartiallyDecrypt, _requests(opening, wanted), deadline_s=_CALL_S
            ):
                match response.WhichOneof("part"):
                    case "contributions_wanted":
                        _settle(wanted, True)
                    case "partial":
                        _settle(wanted, False)
                        described = response.partial
                        if described.size_bytes > most:
                            raise self._malformed("its partial decryption is far too large")
                    case "chunk" if described is not None:
                        content += response.chunk.content
                        if len(content) > described.size_bytes:
                            raise self._malformed("its partial decryption is longer than it said")
        finally:
            _settle(wanted, False)
        if described is None or len(content) != described.size_bytes:
            raise self._malformed("it did not send its partial decryption whole")
        self._check(opening.request, holder, described, bytes(content))
        return bytes(content)

    def _check(
        self,
        request: DecryptionRequest,
        holder: int,
        described: trustee_pb2.PartialDecryption,
        content: bytes,
    ) -> None:
        sha256 = hashlib.sha256(content).digest()
        statement = partial_decryption(request.digest(), holder, len(content), sha256)
        public = self._verify(self._id, described.certificate)
        if not signing.verify(public, described.signature, *statement):
            raise IntegrityError(
                "PARTIAL_UNSIGNED",
                f"the partial decryption is not signed by {self._id} for this request",
                culprit=self._id,
            )

    def _malformed(self, why: str) -> IntegrityError:
        return IntegrityError("PARTIAL_MALFORMED", f"{self._id}: {why}", culprit=self._id)


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


async def _requests(
    opening: Opening, wanted: asyncio.Future[bool]
) -> AsyncIterator[trustee_pb2.PartiallyDecryptRequest]:
    yield trustee_pb2.PartiallyDecryptRequest(header=_header(opening.request))
    for start in range(0, len(opening.manifest), _PAGE):
        page = trustee_pb2.ManifestPage(
            contributions=[
                trustee_pb2.Contribution(
                    client=each.client,
                    sha256=each.sha256,
                    signature=each.signature,
                    certificate=each.certificate,
                )
                for each in opening.manifest[start : start + _PAGE]
            ]
        )
        yield trustee_pb2.PartiallyDecryptRequest(manifest=page)
    if not await wanted:
        return
    chunks = _chunks(opening.inputs)
    offset = 0
    while content := await asyncio.to_thread(next, chunks, b""):
        yield trustee_pb2.PartiallyDecryptRequest(
            chunk=trustee_pb2.CiphertextChunk(offset=offset, content=content)
        )
        offset += len(content)


def _chunks(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while content := file.read(_CHUNK_BYTES):
                yield content


def _header(request: DecryptionRequest) -> trustee_pb2.DecryptionRequest:
    context = request.context
    return trustee_pb2.DecryptionRequest(
        federation=context.federation,
        **_subject(context.subject),
        encryption_key=context.key_name,
        key_digest=context.key_digest,
        minimum_cohort=context.minimum_cohort,
        maximum_cohort=context.maximum_cohort,
        layout_digest=context.layout_digest,
        contributions=request.contributions,
        size_bytes=request.size_bytes,
        manifest_digest=request.manifest_digest,
        total_sha256=request.total_sha256,
    )


def _subject(subject: Subject) -> dict[str, Any]:
    if isinstance(subject, RoundSubject):
        return {
            "round": trustee_pb2.RoundSubject(
                task=subject.task,
                number=subject.number,
                attempt=subject.attempt,
                attempt_nonce=subject.attempt_nonce,
                model_digest=subject.model_digest,
                task_digest=subject.task_digest,
            )
        }
    return {
        "sum": trustee_pb2.SumSubject(
            sum=subject.sum, nonce=subject.nonce, spec_digest=subject.spec_digest
        )
    }
