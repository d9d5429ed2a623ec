"""The serialised layout of SEAL's objects, as far as we write and read it, uncompressed.

    header     = u16 0xa15e ‖ u8 16 ‖ u8 major ‖ u8 minor ‖ u8 compression ‖ u16 0
                 ‖ u64 size with the header
    array      = header ‖ u64 count ‖ count · u64
    ciphertext = header ‖ parms_id (4 · u64) ‖ u8 in NTT form ‖ u64 polynomials ‖ u64 N ‖ u64 primes
                 ‖ f64 scale ‖ u64 correction factor ‖ array; a public key is the same
    modulus    = header ‖ u64
    parameters = header ‖ u8 scheme ‖ u64 N ‖ u64 primes ‖ modulus… ‖ modulus of the plaintext
    plaintext  = header ‖ parms_id ‖ u64 coefficients ‖ f64 scale ‖ array; a secret key is the same

all little-endian, polynomials in order, in each the primes in order (SEAL 4, `Ciphertext::save`,
`Plaintext::save`, `EncryptionParameters::save`, `DynArray::save`, `Serialization::SEALHeader`).
`cryptosystem` makes sure of it at start-up. Reading compares the whole of what precedes the
residues: nothing else is accepted.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto.errors import IntegrityError

Residues = NDArray[np.uint64]
ParmsId = list[int]

MINOR = 4  # of the SEAL in seal-python 4.4
HEADER_BYTES = 16

_OBJECT, _CIPHERTEXT = "<HBBBBHQ", "<4QBQQQdQ"
_MAGIC, _MAJOR = 0xA15E, 4
_WORD_BYTES = 8
_CKKS = 2  # SEAL's number of the scheme


def ciphertext(
    parms_id: ParmsId, polynomials: Residues, scale: float, *, ntt: bool = True, minor: int = MINOR
) -> bytes:
    """Writes polynomials, shape (polynomials, primes, N), as SEAL's ciphertext."""
    return _ciphertext_head(parms_id, polynomials.shape, scale, ntt, minor) + polynomials.tobytes()


def residues(
    data: bytes,
    parms_id: ParmsId,
    shape: tuple[int, ...],
    scale: float,
    *,
    ntt: bool = True,
    minor: int = MINOR,
) -> Residues:
    """Reads back what `ciphertext` writes; a view of the data.

    Raises:
        IntegrityError: `SEAL_FORMAT` for any other layout, parameters, form, shape or scale.
    """
    head = _ciphertext_head(parms_id, shape, scale, ntt, minor)
    count = int(np.prod(shape))
    if len(data) != len(head) + count * _WORD_BYTES or not data.startswith(head):
        raise IntegrityError(
            "SEAL_FORMAT", "these bytes are no SEAL ciphertext of the expected form and parameters"
        )
    return np.frombuffer(data, "<u8", count, len(head)).reshape(shape)


def plaintext(
    parms_id: ParmsId, polynomial: Residues, scale: float, *, minor: int = MINOR
) -> bytes:
    """Writes a polynomial in NTT form, shape (primes, N), as SEAL's plaintext."""
    count = polynomial.size
    own = struct.pack("<4QQd", *parms_id, count, scale)
    return _object(own, count, minor) + polynomial.tobytes()


def ckks_parameters(degree: int, primes: tuple[int, ...], *, minor: int = MINOR) -> bytes:
    """Writes the parameters of CKKS as SEAL does."""
    own = struct.pack("<BQQ", _CKKS, degree, len(primes))
    moduli = [
        header(HEADER_BYTES + _WORD_BYTES, minor) + struct.pack("<Q", modulus)
        for modulus in (*primes, 0)
    ]
    content = own + b"".join(moduli)
    return header(HEADER_BYTES + len(content), minor) + content


def ciphertext_bytes(shape: tuple[int, ...]) -> int:
    """Returns the size of a ciphertext of this shape, with its header."""
    return len(_ciphertext_head([0, 0, 0, 0], shape, 1.0, True, MINOR)) + (
        int(np.prod(shape)) * _WORD_BYTES
    )


def _ciphertext_head(
    parms_id: ParmsId, shape: tuple[int, ...], scale: float, ntt: bool, minor: int
) -> bytes:
    polynomials, primes, degree = shape
    own = struct.pack(_CIPHERTEXT, *parms_id, ntt, polynomials, degree, primes, scale, 1)
    return _object(own, polynomials * primes * degree, minor)


def _object(own: bytes, count: int, minor: int) -> bytes:
    """Writes all of an object but the residues at its end."""
    array_bytes = HEADER_BYTES + _WORD_BYTES * (1 + count)
    array_head = header(array_bytes, minor) + struct.pack("<Q", count)
    return header(HEADER_BYTES + len(own) + array_bytes, minor) + own + array_head


def header(size: int, minor: int = MINOR, compression: int = 0) -> bytes:
    """Writes the header of an object whose size, with the header, is known."""
    return struct.pack(_OBJECT, _MAGIC, HEADER_BYTES, _MAJOR, minor, compression, 0, size)
