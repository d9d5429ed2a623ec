"""A client's input to an encrypted round: its values, encrypted and signed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from finsecure_crypto.encoding import VectorLayout, rounding_generator
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.rounds import (
    EncryptedInputHeader,
    EncryptedRoundParameters,
    sign_input,
)
from finsecure_crypto.homomorphic.scheme import EncryptionKey
from finsecure_crypto.secagg.membership import Identity

from finsecure_client.contribution import Values


@dataclass(frozen=True)
class EncryptedInput:
    """What is uploaded.

    Attributes:
        header: signed.
        content: all ciphertexts, one after another, and the proof behind them if any.
    """

    header: EncryptedInputHeader
    content: bytes = field(repr=False)


def encrypt_input(
    key: EncryptionKey,
    parameters: EncryptedRoundParameters,
    values: Values,
    identity: Identity,
) -> EncryptedInput:
    """Encrypt and sign.

    Raises:
        InvalidArgumentError: what the encoding refuses; the trainer's fault.
        UnavailableError: ENCRYPTION_WORKER_LOST.
    """
    binding = parameters.binding()
    content = b"".join(
        encrypted(key, parameters.layout, values, binding.input_binding(identity.client_id))
    )
    header = sign_input(
        binding,
        len(content),
        hashlib.sha256(content).digest(),
        signing_key=identity.signing_key,
        certificate=identity.certificate,
    )
    return EncryptedInput(header, content)


def encrypted(
    key: EncryptionKey, layout: VectorLayout, values: Values, binding: bytes
) -> Iterator[bytes]:
    """Encrypt; yields an input in pieces, and raises as `encrypt_input`.

    Args:
        key: of the trustees.
        layout: of the values.
        values: of this client.
        binding: `EncryptedContext.input_binding` of this client.
    """
    rng = rounding_generator()
    if key.mode is not Mode.PAILLIER:
        return key.encrypt_input(layout, values, rng, binding)
    # Only this mode is worth processes, and only it needs the extra that they import.
    from finsecure_crypto.homomorphic.paillier import PaillierKey

    from finsecure_client import encryptors

    assert isinstance(key, PaillierKey)  # noqa: S101  # for the type checker
    return encryptors.encrypted(key, layout, values, rng, binding)
