"""A trustee's share of the secret, and the partial decryptions that it makes with proof.

Its canonical bytes: "FSPAILS1" ‖ u8 holder ‖ digest of the public key ‖ s_i, big-endian, in as
many bytes as a ciphertext has.
"""

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import gmpy2
from gmpy2 import mpz

from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.paillier import proof
from finsecure_crypto.homomorphic.paillier.integers import from_bytes, to_bytes
from finsecure_crypto.homomorphic.paillier.key import PaillierKey
from finsecure_crypto.homomorphic.paillier.key_format import MAX_HOLDERS
from finsecure_crypto.homomorphic.paillier.modulus import malformed
from finsecure_crypto.homomorphic.paillier.threshold import require_context
from finsecure_crypto.homomorphic.scheme import EncryptionKey
from finsecure_crypto.randomness import Randomness
from finsecure_crypto.secret import SecretBytes

_MAGIC = b"FSPAILS1"
_HEADER = struct.Struct(">8sB32s")
_SECRET_SIZES = (512, 768)  # bytes of a ciphertext at 2048 and 3072 bits


@dataclass(frozen=True)
class PaillierShare:
    """What one trustee holds; a `KeyShare`.

    Attributes:
        holder: number of the trustee, from 1.
        key_digest: digest of the public key, 32 bytes.
        secret: s_i, big-endian, in as many bytes as a ciphertext has.
    """

    holder: int
    key_digest: bytes
    secret: SecretBytes = field(repr=False, compare=False)

    @classmethod
    def read(cls, data: SecretBytes, sizes: Sequence[int] = _SECRET_SIZES) -> "PaillierShare":
        """Reads a share; `check` then tells whether it is one of the key.

        Args:
            data: as `serialise` returns.
            sizes: bytes that the secret may have.

        Raises:
            IntegrityError: `KEY_MALFORMED`; the sender's.
        """
        raw = data.expose()
        if len(raw) - _HEADER.size not in sizes:
            raise malformed(f"a share has not {len(raw)} bytes")
        magic, holder, digest = _HEADER.unpack_from(raw)
        if magic != _MAGIC or not 1 <= holder <= MAX_HOLDERS:
            raise malformed("it is no share of a trustee")
        return cls(holder, digest, SecretBytes(raw[_HEADER.size :]))

    @property
    def mode(self) -> Mode:
        """The scheme."""
        return Mode.PAILLIER

    def serialise(self) -> SecretBytes:
        """Returns the canonical form, which `registry.load_share` reads."""
        header = _HEADER.pack(_MAGIC, self.holder, self.key_digest)
        return SecretBytes(header + self.secret.expose())

    def check(self, key: PaillierKey) -> None:
        """Checks that the share belongs to the key: v^(Δs_i) is its verification key.

        A trustee does so before it accepts a share from a dealer.

        Raises:
            InvalidArgumentError: `KEY_MISMATCH` for a share of another key; the caller's.
            IntegrityError: `SHARE_INVALID` for a secret that is not the holder's; the dealer's.
        """
        exponent = key.delta * self._secret(key)
        square = key.modulus.square
        if not exponent or key.verification[self.holder - 1] != gmpy2.powmod_sec(
            key.verification_base, exponent, square
        ):
            raise IntegrityError(
                "SHARE_INVALID",
                f"this is not the share of trustee {self.holder}; do not use the key, and hold the "
                "ceremony again",
            )

    def partial(
        self,
        key: EncryptionKey,
        total: bytes,
        context: bytes,
        randomness: Randomness = os.urandom,
    ) -> bytes:
        """Makes this trustee's partial decryption of a run of sums, on all cores.

        Exponentiations with the secret take the same time for all secrets of its size.

        Args:
            key: the public key that this is a share of.
            total: the run of sums.
            context: 32 bytes that bind the request, and go into the proof.
            randomness: of the proof.

        Returns:
            c^(2Δs_i) mod n² for each ciphertext c, and one proof for all.

        Raises:
            InvalidArgumentError: `KEY_MISMATCH` for a share of another key, `CONTEXT_LENGTH`; the
                caller's.
            IntegrityError: `CIPHERTEXT_MALFORMED`; the sender's.
        """
        require_context(context)
        if not isinstance(key, PaillierKey):
            raise _mismatch()
        exponent = key.delta * self._secret(key)
        ciphertexts = key.modulus.parse(total)
        partials = _powers(ciphertexts, 2 * exponent, key.modulus.square)
        written = key.modulus.join(partials)
        statement = key.statement(self.holder, context, (total, ciphertexts), (written, partials))
        return written + proof.prove(statement, exponent, randomness)

    def _secret(self, key: PaillierKey) -> mpz:
        if self.key_digest != key.digest() or self.holder > key.holders:
            raise _mismatch()
        if len(self.secret) != key.modulus.ciphertext_bytes:
            raise _mismatch()
        return from_bytes(self.secret.expose())


def make_share(key: PaillierKey, holder: int, secret: mpz) -> PaillierShare:
    """Wraps the secret s_i of a holder."""
    written = to_bytes(secret, key.modulus.ciphertext_bytes)
    return PaillierShare(holder, key.digest(), SecretBytes(written))


def _powers(bases: Sequence[mpz], exponent: mpz, modulus: mpz) -> list[mpz]:
    def power(base: mpz) -> mpz:
        # Each thread has a context of its own; without this the lock is held to the end.
        gmpy2.get_context().allow_release_gil = True
        return gmpy2.powmod_sec(base, exponent, modulus)

    with ThreadPoolExecutor(min(len(bases), os.cpu_count() or 1)) as threads:
        return list(threads.map(power, bases))


def _mismatch() -> InvalidArgumentError:
    return InvalidArgumentError(
        "KEY_MISMATCH", "this share is of another key; use the key version that the request names"
    )
