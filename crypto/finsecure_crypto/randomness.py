"""Where random bytes come from: a callable, so that tests can replay a protocol run."""

from collections.abc import Callable

from finsecure_crypto.errors import InternalError
from finsecure_crypto.secret import SecretBytes

Randomness = Callable[[int], bytes]
"""Returns the asked number of random bytes; `os.urandom` everywhere but in tests."""


def draw(randomness: Randomness, length: int) -> bytes:
    """Draws bytes and refuses a source that returns fewer or more than asked.

    Raises:
        InternalError: `RANDOMNESS_BROKEN`; a short read would otherwise weaken a key in silence.
    """
    drawn = randomness(length)
    if len(drawn) != length:
        raise InternalError(
            "RANDOMNESS_BROKEN",
            f"the random source returned {len(drawn)} bytes instead of {length}; replace it",
        )
    return drawn


def draw_secret(randomness: Randomness, length: int = 32) -> SecretBytes:
    """Draws a secret of `length` bytes, by default a 256-bit key or seed.

    Raises:
        InternalError: `RANDOMNESS_BROKEN`, as `draw`.
    """
    return SecretBytes(draw(randomness, length))
