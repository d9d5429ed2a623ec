"""CKKS keys and ciphertexts in the bytes of TenSEAL 0.3, for clients that have nothing else.

A TenSEAL vector has a real value in each of N/2 slots of a ciphertext; one of ours has two, re and
im, as re + X^(N/2)·im. So two of TenSEAL's make one of ours exactly, without a change of scale. The
other way, one of ours becomes two, c and c·X^(-N/2): of their slots TenSEAL reads the real parts,
which are re and im because X^(N/2) is i or -i in every slot.

TenSEAL's messages are protobufs around objects of SEAL 4.3, which it compresses with Zstandard.
Nothing from outside reaches SEAL or TenSEAL here: sizes are bounded, and an object's head has to be
the one that we would write.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import zstandard
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.homomorphic.ckks import CkksKey
from finsecure_crypto.homomorphic.lattice import canonical, seal_bytes
from finsecure_crypto.homomorphic.lattice.seal_bytes import Residues

_MINOR = 3  # of the SEAL in TenSEAL 0.3
_ZSTANDARD = 2  # how a header says that an object is compressed with it
_MAXIMUM_WINDOW = 2**24

# The fields of tensealcontext.proto and tensors.proto that matter, by the numbers there.
_MESSAGES = {
    "Public": [("public_key", 1, "TYPE_BYTES"), ("scale", 3, "TYPE_DOUBLE")],
    "Context": [
        ("encryption_parameters", 1, "TYPE_BYTES"),
        ("public_context", 2, ".tenseal.Public"),
    ],
    "Vector": [
        ("sizes", 1, "TYPE_UINT32"),
        ("ciphertexts", 2, "TYPE_BYTES"),
        ("scale", 3, "TYPE_DOUBLE"),
    ],
}
_REPEATED = {"sizes", "ciphertexts"}


def write_context(key: CkksKey) -> bytes:
    """Writes the public context that `tenseal.context_from` reads and encrypts under."""
    system = key.system
    parameters = system.parameters
    public = seal_bytes.ciphertext(system.key_parms_id, key.polynomials(), 1.0, minor=_MINOR)
    described = seal_bytes.ckks_parameters(parameters.degree, parameters.primes, minor=_MINOR)
    context = _new("Context")
    context.encryption_parameters = described
    context.public_context.public_key = public
    context.public_context.scale = parameters.scale
    return bytes(context.SerializeToString())


def spread(
    key: CkksKey,
    layout: VectorLayout,
    values: Mapping[str, NDArray[Any]],
    rng: np.random.Generator,
) -> list[float]:
    """Returns what a client has TenSEAL encrypt: fractions of the bounds, and zeros to the end.

    TenSEAL fills what is left of its last ciphertext by repeating it, so nothing may be left.

    Raises:
        InvalidArgumentError: as `CkksKey.encrypt`; the caller's.
    """
    key.require(layout)
    layout.check(values)
    slots = np.zeros(_chunks(key, layout) * _half(key))
    filled = key.spread(layout, values, rng)
    slots[: filled.size] = filled
    return slots.tolist()


def read_vector(key: CkksKey, layout: VectorLayout, data: bytes) -> bytes:
    """Turns a serialised TenSEAL vector into a client's input.

    Args:
        key: the public key that the vector is encrypted under.
        layout: of the input.
        data: what `serialize` of a TenSEAL vector of the values of `spread` returned.

    Raises:
        InvalidArgumentError: `ERROR_BOUND`, as `CkksKey.shape`.
        IntegrityError: `TENSEAL_MALFORMED` for anything but a vector of fresh ciphertexts under the
            parameters and scale of the key; the sender's.
    """
    key.require(layout)
    vector = _new("Vector")
    try:
        vector.ParseFromString(data)
    except DecodeError as error:
        raise _malformed("it is no message of that kind") from error
    chunks, half = _chunks(key, layout), _half(key)
    if list(vector.sizes) != [half] * chunks or len(vector.ciphertexts) != chunks:
        raise _malformed(
            f"it has not {chunks} ciphertexts of {half} values, as `spread` makes them"
        )
    read = [_residues(key, each) for each in vector.ciphertexts]
    if len(read) % 2:
        read.append(np.zeros_like(read[0]))
    ring = key.system.ring
    unit = _monomial(key, half)
    joined = [
        ring.add(re, ring.multiply(im, unit)) for re, im in zip(read[::2], read[1::2], strict=True)
    ]
    return canonical.write(key.system.parameters, np.stack(joined))


def write_vector(key: CkksKey, run: bytes) -> bytes:
    """Writes a run of ciphertexts as a vector that `tenseal.ckks_vector_from` reads.

    Raises:
        IntegrityError: `CIPHERTEXT_MALFORMED`, as `CkksKey.check`.
    """
    system = key.system
    half = _half(key)
    # X^(-N/2) = -X^(N/2), since X^N = -1.
    inverse = system.ring.negate(_monomial(key, half))
    vector = _new("Vector")
    vector.scale = system.parameters.scale
    for pair in key.pairs(run).astype(np.uint64):
        for part in (pair, system.ring.multiply(pair, inverse)):
            written = seal_bytes.ciphertext(
                system.parms_id, part, system.parameters.scale, minor=_MINOR
            )
            vector.sizes.append(half)
            vector.ciphertexts.append(written)
    return bytes(vector.SerializeToString())


def _half(key: CkksKey) -> int:
    """Returns how many values TenSEAL puts into a ciphertext."""
    return key.system.parameters.degree // 2


def _chunks(key: CkksKey, layout: VectorLayout) -> int:
    return -(-key.slots(layout) // _half(key))


def _residues(key: CkksKey, data: bytes) -> Residues:
    """Reads one ciphertext, shape (2, primes, N), its residues checked."""
    plain = _decompressed(key, data)
    try:
        residues = key.system.residues(plain, minor=_MINOR)
    except IntegrityError as error:
        raise _malformed("it has a ciphertext of another form, level, scale or key size") from error
    if np.any(residues >= key.system.ring.columns):
        raise _malformed("it has a residue that is not below its prime")
    return residues


def _decompressed(key: CkksKey, data: bytes) -> bytes:
    """Returns an object as SEAL writes it without compression, of bounded size."""
    if not data.startswith(seal_bytes.header(len(data), _MINOR, _ZSTANDARD)):
        return data
    parameters = key.system.parameters
    shape = (2, len(parameters.ciphertext_primes), parameters.degree)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAXIMUM_WINDOW)
    try:
        with decompressor.stream_reader(data[seal_bytes.HEADER_BYTES :]) as reader:
            content = reader.read(seal_bytes.ciphertext_bytes(shape))
    except zstandard.ZstdError as error:
        raise _malformed("it has a ciphertext that is not compressed with Zstandard") from error
    return seal_bytes.header(seal_bytes.HEADER_BYTES + len(content), _MINOR) + content


def _monomial(key: CkksKey, power: int) -> Residues:
    ring = key.system.ring
    coefficients = np.zeros((1, ring.degree), np.int64)
    coefficients[0, power] = 1
    monomial: Residues = ring.forward(ring.reduce(coefficients))[0]
    return monomial


def _classes() -> dict[str, type[Message]]:
    """Makes the classes of `_MESSAGES`, in a pool of their own beside TenSEAL's."""
    file = {"name": "finsecure_tenseal.proto", "package": "tenseal", "syntax": "proto3"}
    messages = [
        {"name": name, "field": [_field(*field) for field in fields]}
        for name, fields in _MESSAGES.items()
    ]
    described = json_format.ParseDict(
        {**file, "messageType": messages}, descriptor_pb2.FileDescriptorProto()
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(described)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tenseal.{name}"))
        for name in _MESSAGES
    }


def _field(name: str, number: int, kind: str) -> dict[str, Any]:
    label = "LABEL_REPEATED" if name in _REPEATED else "LABEL_OPTIONAL"
    typed = (
        {"type": kind} if kind.startswith("TYPE_") else {"typeName": kind, "type": "TYPE_MESSAGE"}
    )
    return {"name": name, "number": number, "label": label, **typed}


_CLASSES = _classes()


def _new(name: str) -> Any:
    return _CLASSES[name]()


def _malformed(what: str) -> IntegrityError:
    return IntegrityError(
        "TENSEAL_MALFORMED",
        f"this is no TenSEAL vector under the key: {what}; make it with a context that "
        "`write_context` wrote, and send it before computing with it",
    )
