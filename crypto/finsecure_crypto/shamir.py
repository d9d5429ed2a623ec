"""Shamir's secret sharing of 32-byte secrets, limb by limb over GF(2^31 - 1).

A. Shamir, *How to share a secret*, CACM 1979. A secret is nine little-endian limbs of 30 bits
(the last has 16), each the constant term of its own random polynomial of degree t - 1; the nine
polynomials are evaluated at the same points. Fewer than t shares say nothing about the secret.
Shares carry no authentication: whoever rebuilds a secret has to check it against something.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import field, gao
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.randomness import Randomness, draw
from finsecure_crypto.secret import SecretBytes

SECRET_BYTES = 32
LIMBS = 9
LIMB_BITS = 30
SHARE_BYTES = 4 * LIMBS

Shares = NDArray[np.uint32]
Points = NDArray[np.uint32]

_LAST_LIMB_BITS = 8 * SECRET_BYTES - LIMB_BITS * (LIMBS - 1)
# Secrets rebuilt at once: their shares, as float64, then fit into the cache of a core.
_BATCH_ELEMENTS = 2**18


class Decoded(NamedTuple):
    """A rebuilt secret and the shares that disagree with it.

    Attributes:
        secret: the secret, 32 bytes.
        wrong: positions of the wrong shares, ascending.
    """

    secret: SecretBytes
    wrong: tuple[int, ...]


def split(
    secrets: Sequence[SecretBytes],
    threshold: int,
    points: Points,
    randomness: Randomness = os.urandom,
) -> Shares:
    """Splits secrets so that `threshold` shares of one rebuild it and fewer say nothing.

    Args:
        secrets: s secrets of 32 bytes.
        threshold: t, with 2 <= t <= len(points).
        points: uint32, shape (n,): the holders' distinct points in [1, P).
        randomness: where the coefficients come from: 4·9·(t-1) bytes a secret, row-major over
            secret, limb and degree, the low 31 bits of each little-endian word; a word that is P,
            and no element, is drawn again.

    Returns:
        uint32, shape (s, n, 9): canonical elements.

    Raises:
        InvalidArgumentError: `SECRET_LENGTH`, `SHARE_THRESHOLD` or `SHARE_POINTS`; the caller's.
    """
    held = _checked_points(points)
    _check_threshold(threshold, held.size)
    if any(len(secret) != SECRET_BYTES for secret in secrets):
        raise InvalidArgumentError("SECRET_LENGTH", f"a shared secret has {SECRET_BYTES} bytes")
    rows = len(secrets) * LIMBS
    coefficients = np.empty((rows, threshold), np.uint64)
    coefficients[:, 0] = np.array([limb for s in secrets for limb in _limbs(s)], np.uint64)
    random = _draw_elements(randomness, rows * (threshold - 1))
    coefficients[:, 1:] = random.reshape(rows, threshold - 1)
    values = field.evaluate(coefficients, held).reshape(len(secrets), LIMBS, held.size)
    return np.ascontiguousarray(values.transpose(0, 2, 1)).astype(np.uint32)


def reconstruct_many(shares: Shares, points: Points, threshold: int) -> list[SecretBytes]:
    """Rebuilds many secrets, with one Lagrange basis where all are held at the same points.

    Where each is held at its own points, their bases are computed together. Uses the first
    `threshold` shares of each. A wrong share gives a wrong secret, not an error: the caller checks
    each secret against its commitment or public key and calls `decode` on the one that fails.

    Args:
        shares: uint32, shape (s, m, 9), m >= threshold, as `split` returns or
            `shares_from_bytes` accepts.
        points: uint32, shape (m,), or (s, m) for each secret's own; distinct, in [1, P).
        threshold: t, as at the splitting.

    Raises:
        InvalidArgumentError: `SHARE_THRESHOLD`, `SHARE_POINTS` or `SHARE_SHAPE`; the caller's.
    """
    held = _validated(shares, points, threshold, dimensions=(1, 2))
    weights = field.lagrange_at_zero(held[..., :threshold])
    batch = max(1, _BATCH_ELEMENTS // (threshold * LIMBS))
    secrets: list[SecretBytes] = []
    for start in range(0, len(shares), batch):
        part = slice(start, start + batch)
        taken = shares[part, :threshold]
        if weights.ndim == 1:
            limbs = field.matmul(weights[None, :], taken)[:, 0]  # type: ignore[arg-type]
        else:
            limbs = field.weighted_sums(weights[part], taken)  # type: ignore[arg-type]
        secrets.extend(_join(row.tolist()) for row in limbs)
    return secrets


def decode(shares: Shares, points: Points, threshold: int) -> Decoded:
    """Rebuilds one secret from shares of which up to (m - t)//2 are wrong, and finds those.

    Slower than `reconstruct_many`, by Gao's algorithm: for a secret that failed its check.

    Args:
        shares: uint32, shape (m, 9), m >= threshold.
        points: uint32, shape (m,), distinct, in [1, P).
        threshold: t, as at the splitting.

    Raises:
        IntegrityError: `SHARES_NOT_DECODABLE` when more shares are wrong; of unnamed peers.
        InvalidArgumentError: `SHARE_THRESHOLD`, `SHARE_POINTS` or `SHARE_SHAPE`; the caller's.
    """
    held = _validated(shares[None], points, threshold)
    values = np.ascontiguousarray(shares.T).astype(np.uint64)
    coefficients = gao.decode(values, held, threshold)
    wrong = np.flatnonzero((field.evaluate(coefficients, held) != values).any(axis=0))
    limbs = coefficients[:, 0].tolist()
    in_range = all(limb < 2 ** _limb_bits(i) for i, limb in enumerate(limbs))
    if wrong.size > (held.size - threshold) // 2 or not in_range:
        raise gao.not_decodable()
    return Decoded(_join(limbs), tuple(wrong.tolist()))


def shares_to_bytes(shares: Shares) -> bytes:
    """Serialises shares, shape (n, 9), to 36 bytes each: nine little-endian uint32."""
    return np.ascontiguousarray(shares, "<u4").tobytes()


def shares_from_bytes(data: bytes) -> Shares:
    """Reads shares of 36 bytes each into an array of shape (n, 9).

    Raises:
        IntegrityError: `SHARE_MALFORMED` when one is cut off or has a limb outside the field,
            which no honest holder sends; the sender's fault. The index is in the message.
    """
    count, rest = divmod(len(data), SHARE_BYTES)
    if rest:
        raise _malformed(count, f"it has {rest} bytes, not {SHARE_BYTES}")
    shares = np.frombuffer(data, "<u4").reshape(count, LIMBS).astype(np.uint32, copy=False)
    outside = shares >= field.P
    if outside.any():
        index = int(outside.any(axis=1).argmax())
        raise _malformed(index, "a limb is not a field element")
    return shares


def _limb_bits(position: int) -> int:
    return LIMB_BITS if position < LIMBS - 1 else _LAST_LIMB_BITS


def _limbs(secret: SecretBytes) -> list[int]:
    value = int.from_bytes(secret.expose(), "little")
    return [(value >> (LIMB_BITS * i)) % 2**LIMB_BITS for i in range(LIMBS)]


def _join(limbs: Sequence[int]) -> SecretBytes:
    # Bits beyond a limb's range are the trace of a wrong share; the check of the secret tells.
    value = 0
    for position, limb in enumerate(limbs):
        value |= (limb % 2 ** _limb_bits(position)) << (LIMB_BITS * position)
    return SecretBytes(value.to_bytes(SECRET_BYTES, "little"))


def _draw_elements(randomness: Randomness, count: int) -> field.Elements:
    elements = _draw_words(randomness, count)
    # The one rejected value, P, comes up once in 2^31 words; a fold would bias zero.
    while (rejected := np.flatnonzero(elements == field.P)).size:
        elements[rejected] = _draw_words(randomness, rejected.size)
    return elements


def _draw_words(randomness: Randomness, count: int) -> field.Elements:
    words = np.frombuffer(draw(randomness, 4 * count), "<u4").astype(np.uint64)
    return words & np.uint64(field.P)


def _validated(
    shares: Shares, points: Points, threshold: int, *, dimensions: tuple[int, ...] = (1,)
) -> field.Elements:
    held = _checked_points(points, dimensions)
    holders = held.shape[-1]
    _check_threshold(threshold, holders)
    if shares.ndim != 3 or shares.shape[1:] != (holders, LIMBS):
        raise InvalidArgumentError("SHARE_SHAPE", f"a secret has shares of shape ({holders}, 9)")
    if held.ndim == 2 and len(held) != len(shares):
        raise InvalidArgumentError("SHARE_SHAPE", "each secret has its own points, or all the same")
    if shares.dtype != np.uint32 or np.any(shares >= field.P):
        raise InvalidArgumentError("SHARE_SHAPE", "shares are uint32 elements of GF(2^31 - 1)")
    return held


def _checked_points(points: Points, dimensions: tuple[int, ...] = (1,)) -> field.Elements:
    if points.ndim not in dimensions or points.dtype != np.uint32:
        raise InvalidArgumentError("SHARE_POINTS", "points are rows of uint32")
    ordered = np.sort(points, axis=-1)
    repeated = np.any(ordered[..., 1:] == ordered[..., :-1])
    if np.any(points == 0) or np.any(points >= field.P) or repeated:
        raise InvalidArgumentError("SHARE_POINTS", "points are distinct and in [1, 2^31 - 1)")
    return points.astype(np.uint64)


def _check_threshold(threshold: int, holders: int) -> None:
    if not 2 <= threshold <= holders:
        raise InvalidArgumentError(
            "SHARE_THRESHOLD", f"the threshold {threshold} is not between 2 and {holders} shares"
        )


def _malformed(index: int, reason: str) -> IntegrityError:
    return IntegrityError("SHARE_MALFORMED", f"share {index} is not usable: {reason}")
