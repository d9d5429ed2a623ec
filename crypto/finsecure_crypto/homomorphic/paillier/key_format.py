"""The canonical bytes of a public key; reading them takes nothing on trust.

    "FSPAILK1" ‖ u16 bits of n ‖ u8 holders ‖ u8 threshold ‖ u16 exponent bits ‖ n ‖ v_1 ‖ …

Big-endian throughout; n has bits/8 bytes and each verification key bits/4.
"""

import struct
from collections.abc import Collection, Sequence
from typing import NamedTuple

import gmpy2
from gmpy2 import mpz

from finsecure_crypto.homomorphic.paillier.blinding import SHORT_EXPONENT_BITS
from finsecure_crypto.homomorphic.paillier.integers import from_bytes, to_bytes
from finsecure_crypto.homomorphic.paillier.modulus import (
    KEY_BITS,
    Modulus,
    checked_modulus,
    malformed,
)

MIN_THRESHOLD, MAX_HOLDERS = 2, 16

_MAGIC = b"FSPAILK1"
_HEADER = struct.Struct(">8sHBBH")


class KeyFields(NamedTuple):
    """The fields of a `PaillierKey`, in its order."""

    modulus: Modulus
    holders: int
    threshold: int
    exponent_bits: int
    verification: tuple[mpz, ...]


def write_key(
    modulus: Modulus,
    holders: int,
    threshold: int,
    exponent_bits: int,
    verification: Sequence[mpz],
) -> bytes:
    """Writes a public key."""
    header = _HEADER.pack(_MAGIC, modulus.bits, holders, threshold, exponent_bits)
    return header + to_bytes(modulus.n, modulus.bits // 8) + modulus.join(verification)


def parse_key(data: bytes, sizes: Collection[int] = KEY_BITS) -> KeyFields:
    """Reads a public key.

    Args:
        data: from anywhere.
        sizes: bits that a modulus may have.

    Raises:
        IntegrityError: `KEY_MALFORMED` for other lengths or parameters, a modulus that
            `Modulus.read` refuses, or verification keys that are no distinct units mod n²; the
            sender's.
    """
    if len(data) < _HEADER.size:
        raise malformed("it is too short")
    magic, bits, holders, threshold, exponent_bits = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise malformed(f"it does not start with {_MAGIC.decode()}")
    if bits not in sizes:
        raise malformed(f"a modulus has not {bits} bits")
    if not opens_once(holders, threshold):
        raise malformed(f"{threshold} of {holders} trustees cannot open a sum, or could open two")
    if exponent_bits not in exponents_for(bits):
        raise malformed(f"blinding exponents have not {exponent_bits} bits")
    size = bits // 8
    if len(data) != _HEADER.size + size + 2 * size * holders:
        raise malformed(f"it has {len(data)} bytes")
    n = from_bytes(data[_HEADER.size : _HEADER.size + size])
    if n.bit_length() != bits:
        raise malformed("the modulus has not the size that the header says")
    modulus = Modulus(checked_modulus(n))
    rest = data[_HEADER.size + size :]
    verification = tuple(from_bytes(rest[i : i + 2 * size]) for i in range(0, len(rest), 2 * size))
    for value in verification:
        if not 1 < value < modulus.square or gmpy2.gcd(value, n) != 1:
            raise malformed("a verification key is no unit mod n²")
    if len(set(verification)) != holders:
        raise malformed("two trustees have the same verification key")
    return KeyFields(modulus, holders, threshold, exponent_bits, verification)


def opens_once(holders: int, threshold: int) -> bool:
    """Tells whether a threshold is one: any two sets of trustees that open have one in common.

    It is what keeps two different sums of one round from being opened, by trustees of whom each
    has seen one: so more than half of them have to agree.
    """
    return MIN_THRESHOLD <= threshold <= holders <= MAX_HOLDERS and 2 * threshold > holders


def exponents_for(bits: int) -> tuple[int, int]:
    """Returns the sizes that blinding exponents may have: short, and half the modulus."""
    return SHORT_EXPONENT_BITS.get(bits, bits // 2), bits // 2
