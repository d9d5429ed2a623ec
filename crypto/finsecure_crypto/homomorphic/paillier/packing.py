"""The words of a layout side by side in plaintexts, the first one in the lowest bits."""

from collections.abc import Iterator, Sequence

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from finsecure_crypto.homomorphic.scheme import Sums

_WORD_BYTES = 8


def ciphertexts_for(modulus: Modulus, words: int) -> int:
    """Returns how many ciphertexts hold a number of words."""
    return -(-words // modulus.words)


def pack(modulus: Modulus, words: NDArray[np.uint64]) -> Iterator[mpz]:
    """Yields the plaintexts of words; the last one may have fewer."""
    data = words.astype("<u8", copy=False).tobytes()
    size = modulus.words * _WORD_BYTES
    for start in range(0, len(data), size):
        yield mpz.from_bytes(data[start : start + size], "little")


def unpack(
    modulus: Modulus, layout: VectorLayout, contributors: int, plaintexts: Sequence[int]
) -> Sums:
    """Decodes the plaintexts of a sum of `contributors` inputs.

    Words of honest inputs never run over, since the lanes in them are sized for the cohort. What
    cannot be such a sum, a plaintext beyond its words included, is refused.

    Raises:
        IntegrityError: `SUM_OUT_OF_RANGE`, as `VectorLayout.decode`.
        InvalidArgumentError: `RUN_LENGTH` for another number of plaintexts, `CONTRIBUTORS`; the
            caller's.
    """
    if len(plaintexts) != ciphertexts_for(modulus, layout.words):
        raise InvalidArgumentError(
            "RUN_LENGTH",
            f"{len(plaintexts)} ciphertexts are not the sum of inputs of this layout, which have "
            f"{ciphertexts_for(modulus, layout.words)}",
        )
    size = modulus.words * _WORD_BYTES
    if any(int(plaintext).bit_length() > 8 * size for plaintext in plaintexts):
        raise _out_of_range()
    data = b"".join(int(plaintext).to_bytes(size, "little") for plaintext in plaintexts)
    words = np.frombuffer(data, "<u8").astype(np.uint64)
    if words[layout.words :].any():
        raise _out_of_range()
    return layout.decode(words[: layout.words], contributors)


def _out_of_range() -> IntegrityError:
    return IntegrityError(
        "SUM_OUT_OF_RANGE",
        "a plaintext holds more than a sum of honest inputs can: a contributor broke the "
        "protocol; drop this round",
    )
