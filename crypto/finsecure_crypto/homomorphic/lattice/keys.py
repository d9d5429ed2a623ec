"""Public keys and shares of the lattice modes, with all that does not depend on the mode.

Ring-LWE encryption after Lyubashevsky, Peikert and Regev (2010) as BGV (2012) and CKKS (2017) have
it: pk = (b, a) with b = -(a·s + noise), c = (b·u + noise + m, a·u + noise).
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import seal
from numpy.typing import NDArray

from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import (
    IntegrityError,
    InvalidArgumentError,
    ProtocolViolationError,
    StateError,
)
from finsecure_crypto.homomorphic.lattice import canonical, sampling
from finsecure_crypto.homomorphic.lattice.canonical import Pairs
from finsecure_crypto.homomorphic.lattice.components import SEED_BYTES, Component
from finsecure_crypto.homomorphic.lattice.cryptosystem import Cryptosystem
from finsecure_crypto.homomorphic.lattice.opening import open_sum
from finsecure_crypto.homomorphic.lattice.parameters import HOLDERS, THRESHOLD
from finsecure_crypto.homomorphic.lattice.ring import BATCH
from finsecure_crypto.homomorphic.lattice.seal_bytes import Residues
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.scheme import CONTEXT_BYTES, Shape, Sums, key_digest
from finsecure_crypto.randomness import Randomness
from finsecure_crypto.secret import SecretBytes

# Ciphertexts that are worked on at once, so that what lies between stays small.
_TILE = 2 * BATCH
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class LatticeKey(ABC):
    """A public key: the seed of the common random element a, and b in canonical form.

    Attributes:
        seed: 32 bytes, of all holders together.
        body: b over the primes of a key, residues as in `canonical`.
    """

    system: ClassVar[Cryptosystem]
    holders: ClassVar[int] = HOLDERS
    threshold: ClassVar[int] = THRESHOLD

    seed: bytes
    body: bytes = field(repr=False)

    @property
    def mode(self) -> Mode:
        """The scheme."""
        return self.system.parameters.mode

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Reads a serialised key.

        Raises:
            IntegrityError: `KEY_MALFORMED`; the sender's.
        """
        parameters = cls.system.parameters
        head = cls._head()
        seed, body = data[len(head) : len(head) + SEED_BYTES], data[len(head) + SEED_BYTES :]
        if not data.startswith(head) or len(body) != parameters.key_bytes:
            raise _malformed("it has another length, other parameters or another mode")
        primes = np.array(parameters.primes, parameters.word)[:, None]
        if np.any(np.frombuffer(body, parameters.word).reshape(len(primes), -1) >= primes):
            raise _malformed("a residue is not below its prime")
        return cls(seed, body)

    def serialise(self) -> bytes:
        """Returns the canonical form: a head that names all parameters, the seed, and b."""
        return self._head() + self.seed + self.body

    @cached_property
    def _digest(self) -> bytes:
        return key_digest(self.mode, self.serialise())

    def digest(self) -> bytes:
        """Returns the digest of the key, 32 bytes."""
        return self._digest

    def shape(self, layout: VectorLayout) -> Shape:
        """Returns how many ciphertexts an input has; see `EncryptionKey.shape`."""
        self.require(layout)
        parameters = self.system.parameters
        return Shape(-(-self.slots(layout) // parameters.degree), parameters.ciphertext_bytes)

    @abstractmethod
    def require(self, layout: VectorLayout) -> None:
        """Refuses a layout whose sums would be wrong; see `EncryptionKey.shape`."""

    @abstractmethod
    def slots(self, layout: VectorLayout) -> int:
        """Returns how many slots the values of a layout fill."""

    @abstractmethod
    def error_bound(self, layout: VectorLayout) -> float:
        """Returns the error of a sum; see `EncryptionKey.error_bound`."""

    @abstractmethod
    def spread(
        self, layout: VectorLayout, values: Mapping[str, NDArray[Any]], rng: np.random.Generator
    ) -> NDArray[Any]:
        """Returns what goes into the slots for checked values, shape (slots,)."""

    @abstractmethod
    def gather(self, layout: VectorLayout, contributors: int, opened: NDArray[Any]) -> Sums:
        """Returns the sums of values for sums of slots, shape (slots,)."""

    def encrypt(
        self,
        layout: VectorLayout,
        values: Mapping[str, NDArray[Any]],
        rng: np.random.Generator,
        randomness: Randomness = os.urandom,
    ) -> Iterator[bytes]:
        """Encrypts one client's values; see `EncryptionKey.encrypt`.

        SEAL draws what blinds the ciphertexts from the operating system by itself; `randomness` has
        no part in it.
        """
        shape = self.shape(layout)
        layout.check(values)
        return self._encrypt(shape.count, self.spread(layout, values, rng))

    def encrypt_input(
        self,
        layout: VectorLayout,
        values: Mapping[str, NDArray[Any]],
        rng: np.random.Generator,
        binding: bytes,
        randomness: Randomness = os.urandom,
    ) -> Iterator[bytes]:
        """Encrypts one client's values; this mode has no proof, so `binding` binds nothing."""
        return self.encrypt(layout, values, rng, randomness)

    def _encrypt(self, count: int, filled: NDArray[Any]) -> Iterator[bytes]:
        parameters, degree = self.system.parameters, self.system.parameters.degree
        slots = np.zeros(count * degree, filled.dtype)
        slots[: filled.size] = filled
        parts = slots.reshape(count, degree)
        for start in range(0, count, _TILE):
            tile = [self.system.encrypt(self._encryptor, p) for p in parts[start : start + _TILE]]
            written = canonical.write(parameters, np.array(tile, parameters.word))
            for at in range(0, len(written), parameters.ciphertext_bytes):
                yield written[at : at + parameters.ciphertext_bytes]

    def check(self, run: bytes) -> int:
        """Checks each ciphertext of a run; see `EncryptionKey.check`."""
        return sum(len(self.pairs(tile)) for tile in self._tiles(run))

    def ciphertext_part(self, size_bytes: int) -> int:
        """Returns all of an input: this mode has no proof."""
        return size_bytes

    def check_input(self, runs: Iterable[bytes], proof: bytes, binding: bytes) -> None:
        """Checks each ciphertext of an input; see `EncryptionKey.check_input`."""
        for run in runs:
            self.check(run)

    def add(self, first: bytes, second: bytes) -> bytes:
        """Adds two runs of the same length; see `EncryptionKey.add`."""
        if len(first) != len(second):
            raise InvalidArgumentError("RUN_LENGTH", "only runs of the same length add up")
        parameters = self.system.parameters
        return b"".join(
            canonical.write(parameters, canonical.total(parameters, self.pairs(a), self.pairs(b)))
            for a, b in zip(self._tiles(first), self._tiles(second), strict=True)
        )

    def verify_partial(self, total: bytes, holder: int, partial: bytes, context: bytes) -> None:
        """Checks the form of a partial decryption, which is all that can be judged alone."""
        self._read_partial(total, holder, partial)

    def combine(
        self,
        layout: VectorLayout,
        contributors: int,
        total: bytes,
        partials: Mapping[int, bytes],
        context: bytes,
    ) -> Sums:
        """Opens a sum; see `EncryptionKey.combine` and, for who is blamed, `opening`."""
        layout.check_contributors(contributors)
        if len(total) != self.shape(layout).total_bytes:
            raise InvalidArgumentError("VECTOR_SHAPE", "the total is no input of this layout")
        if not set(partials) <= set(range(1, HOLDERS + 1)):
            raise InvalidArgumentError("HOLDER_UNKNOWN", f"holders are 1 to {HOLDERS}")
        if len(partials) < THRESHOLD:
            raise StateError(
                "TOO_FEW_PARTIALS", f"{THRESHOLD} of {HOLDERS} trustees open a sum; ask another"
            )
        read = {
            holder: self._read_partial(total, holder, partial)
            for holder, partial in partials.items()
        }
        opened = open_sum(self.system, self.pairs(total), read)
        slots = [self.system.read(each.astype(np.uint64)) for each in opened]
        return self.gather(layout, contributors, np.concatenate(slots))

    def polynomials(self) -> Residues:
        """Returns b and a as values over the primes of a key, shape (2, primes, N)."""
        parameters = self.system.parameters
        body = np.frombuffer(self.body, parameters.word).astype(np.uint64)
        mask = sampling.uniform(self.seed, parameters.degree, parameters.primes)
        return np.stack([body.reshape(mask.shape), mask])

    @cached_property
    def _encryptor(self) -> seal.Encryptor:
        return self.system.encryptor(self.polynomials())

    def pairs(self, run: bytes | memoryview) -> Pairs:
        """Reads a run of ciphertexts, shape (m, 2, primes, N), in the mode's word.

        Raises:
            IntegrityError: `CIPHERTEXT_MALFORMED`; the sender's.
        """
        pairs = canonical.read(self.system.parameters, run)
        if pairs is None:
            raise IntegrityError(
                "CIPHERTEXT_MALFORMED",
                f"these {len(run)} bytes are no run of {self.mode.value} ciphertexts: another "
                "length, or a residue that is not below its prime",
            )
        return pairs

    def _tiles(self, run: bytes) -> Iterator[memoryview]:
        """Cuts a run, so that what lies between stays in the cache; an empty one has one tile."""
        size = _TILE * self.system.parameters.ciphertext_bytes
        for start in range(0, max(len(run), 1), size):
            yield memoryview(run)[start : start + size]

    def _read_partial(self, total: bytes, holder: int, partial: bytes) -> Pairs:
        pairs = canonical.read(self.system.parameters, partial)
        if pairs is None or len(partial) != len(total):
            raise ProtocolViolationError(
                "PARTIAL_INVALID",
                f"holder {holder} sent a partial decryption of another length or with a residue "
                "that is not below its prime; leave it out",
                culprit=str(holder),
            )
        return pairs

    @classmethod
    def _head(cls) -> bytes:
        parameters = cls.system.parameters
        named = (
            f"finsecure lattice key 1;{parameters.mode.value};N={parameters.degree};"
            f"q={','.join(map(str, parameters.primes))};t={parameters.noise_factor};"
            f"scale={parameters.scale.hex()};{THRESHOLD} of {HOLDERS}\n"
        )
        return named.encode("ascii")


@dataclass(frozen=True)
class LatticeShare:
    """What one trustee holds: the component that it drew, and that of its predecessor.

    Attributes:
        system: the mode.
        holder: 1 to 3.
        key_digest: of the key that it is a share of, 32 bytes.
        components: its own, and its predecessor's.
    """

    system: Cryptosystem = field(repr=False)
    holder: int
    key_digest: bytes
    components: tuple[Component, Component]

    @property
    def mode(self) -> Mode:
        """The scheme."""
        return self.system.parameters.mode

    @classmethod
    def read(cls, system: Cryptosystem, data: SecretBytes) -> Self:
        """Reads a serialised share.

        Raises:
            IntegrityError: `KEY_MALFORMED`; the sender's.
        """
        head, degree = _share_head(system), system.parameters.degree
        exposed = data.expose()
        size = SEED_BYTES + degree
        start = len(head) + 1 + _DIGEST_BYTES
        own = Component.read(exposed[start : start + size], degree)
        other = Component.read(exposed[start + size :], degree)
        if not exposed.startswith(head) or own is None or other is None:
            raise _malformed("it is no share of this mode")
        holder = exposed[len(head)]
        if not 1 <= holder <= HOLDERS:
            raise _malformed(f"holders are 1 to {HOLDERS}")
        return cls(system, holder, exposed[len(head) + 1 : start], (own, other))

    def serialise(self) -> SecretBytes:
        """Returns the canonical form: a head, the holder, the key's digest, both components."""
        return SecretBytes(
            _share_head(self.system)
            + bytes([self.holder])
            + self.key_digest
            + b"".join(component.serialise() for component in self.components)
        )

    def partial(
        self,
        key: LatticeKey,
        total: bytes,
        context: bytes,
        randomness: Randomness = os.urandom,
    ) -> bytes:
        """Makes this trustee's partial decryption; see `KeyShare.partial`.

        It is a function of the share and the total: the same question has the same answer, and who
        asks for the same ciphertext in another run learns nothing new. There is no proof in it, so
        neither `context` nor `randomness` has a part.

        Returns:
            For each ciphertext the flooded products with both components; see `canonical`.
        """
        if key.digest() != self.key_digest:
            raise InvalidArgumentError("KEY_MISMATCH", "this share belongs to another key")
        if len(context) != CONTEXT_BYTES:
            raise InvalidArgumentError("CONTEXT_LENGTH", f"a context has {CONTEXT_BYTES} bytes")
        parameters, ring = self.system.parameters, self.system.ring
        parts = key.pairs(total)[:, 1]
        partial = np.empty((len(parts), 2, *parts.shape[1:]), parameters.word)
        for place, component in enumerate(self.components):
            secret = sampling.coefficients(component.coefficients)
            factor = ring.forward(ring.reduce(secret[None]))[0]
            for start in range(0, len(parts), _TILE):
                tile = parts[start : start + _TILE]
                product = ring.multiply(tile.astype(np.uint64), factor)
                partial[start : start + _TILE, place] = ring.add(
                    product, self._flood(component, tile)
                )
        return canonical.write(parameters, partial)

    def _flood(self, component: Component, parts: Pairs) -> Residues:
        parameters, ring = self.system.parameters, self.system.ring
        noise = np.stack(
            [sampling.smudging(component.seed, part.tobytes(), parameters.degree) for part in parts]
        )
        return ring.forward(ring.reduce(noise), parameters.noise_factor)


def _share_head(system: Cryptosystem) -> bytes:
    return f"finsecure lattice share 1;{system.parameters.mode.value}\n".encode("ascii")


def _malformed(reason: str) -> IntegrityError:
    return IntegrityError(
        "KEY_MALFORMED", f"these bytes are no key or share of this mode: {reason}"
    )
