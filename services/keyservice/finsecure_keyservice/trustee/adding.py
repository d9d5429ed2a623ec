"""Adding contributions up again from the bytes that a caller streams, in a worker process."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from finsecure_crypto.errors import FinSecureError, IntegrityError, ProtocolViolationError
from finsecure_crypto.homomorphic.decryption import Contribution, DecryptionRequest

from finsecure_keyservice.trustee import worker
from finsecure_keyservice.trustee.workers import Worker

_ADD_TIMEOUT_S = 600.0  # a proof of the largest inputs takes minutes to verify


@dataclass(frozen=True)
class Piece:
    """A piece of the inputs of all contributions, one after another."""

    offset: int
    content: bytes


async def added(
    working: Worker,
    request: DecryptionRequest,
    manifest: Sequence[Contribution],
    pieces: AsyncIterator[Piece],
) -> bytes:
    """Let a worker add all contributions up; each and the total must have their digests.

    Args:
        working: has the key.
        request: what is to be opened.
        manifest: of the request.
        pieces: the inputs of all contributions, in the order of the manifest.

    Returns:
        The total, as bytes.

    Raises:
        IntegrityError: STREAM_ORDER; CIPHERTEXT_MALFORMED, PLAINTEXT_PROOF_MISSING or
            PLAINTEXT_PROOF_REJECTED with the client as the culprit.
        ProtocolViolationError: CONTRIBUTION_MISMATCH with a culprit, or TOTAL_MISMATCH.
        UnavailableError: WORKER_FAILED.
    """
    offset, rest = 0, memoryview(b"")
    for contribution in manifest:
        digest, missing = hashlib.sha256(), request.size_bytes
        while missing:
            if not rest:
                piece = await anext(pieces, None)
                if piece is None or piece.offset != offset:
                    raise IntegrityError(
                        "STREAM_ORDER",
                        f"the ciphertexts do not go on at byte {offset}; send all contributions in "
                        "the order of the manifest, without gaps",
                    )
                offset, rest = offset + len(piece.content), memoryview(piece.content)
            part, rest = bytes(rest[:missing]), rest[missing:]
            missing -= len(part)
            digest.update(part)
            await working.give(part)
        if digest.digest() != contribution.sha256:
            raise ProtocolViolationError(
                "CONTRIBUTION_MISMATCH",
                f"the ciphertexts sent for {contribution.client} are not those that it signed",
                culprit=contribution.client,
            )
        await _add(working, request, contribution.client)
    if rest or await anext(pieces, None) is not None:
        raise IntegrityError("STREAM_ORDER", "more bytes came than the contributions have")
    total = await working.ask(worker.TOTAL)
    if hashlib.sha256(total).digest() != request.total_sha256:
        raise ProtocolViolationError(
            "TOTAL_MISMATCH", "the total that was to be opened is not the sum of the contributions"
        )
    return total


async def _add(working: Worker, request: DecryptionRequest, client: str) -> None:
    try:
        await working.ask(worker.ADD, request.context.input_binding(client), _ADD_TIMEOUT_S)
    except FinSecureError as error:
        # Whatever happens while its bytes are parsed and its proof is verified is that client's to
        # explain.
        raise type(error)(error.code, error.message, culprit=client) from error
