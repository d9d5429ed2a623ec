"""What the holders of a lattice key send each other while they make it.

    message = "FSLC" ‖ u8 version 1 ‖ u8 kind ‖ u8 mode (1 BGV, 2 CKKS) ‖ u8 holder ‖ content

with a content of fixed size for each kind and mode.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.homomorphic.lattice.components import SEED_BYTES, Component
from finsecure_crypto.homomorphic.lattice.parameters import HOLDERS, OF_MODE, Parameters
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.secret import SecretBytes

_MAGIC = b"FSLC\x01"
_MODES = {1: Mode.BGV, 2: Mode.CKKS}
_NUMBERS = {mode: number for number, mode in _MODES.items()}
_HEAD_BYTES = len(_MAGIC) + 3
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class _Message:
    kind: ClassVar[int]

    mode: Mode
    holder: int

    @classmethod
    def size(cls, mode: Mode) -> int:
        """Returns how many bytes such a message has."""
        return _HEAD_BYTES + cls._content_bytes(OF_MODE[mode])

    @classmethod
    def _content_bytes(cls, parameters: Parameters) -> int:
        return _DIGEST_BYTES

    def _head(self) -> bytes:
        return _MAGIC + bytes([self.kind, _NUMBERS[self.mode], self.holder])

    @classmethod
    def _parse(cls, data: bytes) -> tuple[Mode, int, bytes]:
        if len(data) < _HEAD_BYTES or not data.startswith(_MAGIC + bytes([cls.kind])):
            raise cls._malformed("it is another kind of message")
        mode, holder = _MODES.get(data[_HEAD_BYTES - 2]), data[_HEAD_BYTES - 1]
        if mode is None or not 1 <= holder <= HOLDERS:
            raise cls._malformed("its mode or its holder does not exist")
        if len(data) != cls.size(mode):
            raise cls._malformed(f"it has {len(data)} bytes instead of {cls.size(mode)}")
        return mode, holder, data[_HEAD_BYTES:]

    @classmethod
    def _malformed(cls, reason: str) -> IntegrityError:
        return IntegrityError(
            "CEREMONY_MALFORMED", f"these bytes are no {cls.__name__} of a ceremony: {reason}"
        )


@dataclass(frozen=True)
class _Public(_Message):
    """A message whose content may be seen by everybody."""

    content: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Returns the byte form."""
        return self._head() + self.content

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads the byte form.

        Raises:
            IntegrityError: `CEREMONY_MALFORMED`; the sender's.
        """
        return cls(*cls._parse(data))


@dataclass(frozen=True)
class Commitment(_Public):
    """To a seed: its digest, 32 bytes."""

    kind: ClassVar[int] = 1


@dataclass(frozen=True)
class Opening(_Public):
    """The seed itself, 32 bytes."""

    kind: ClassVar[int] = 2


@dataclass(frozen=True)
class Contribution(_Public):
    """One term of b: residues over the primes of a key, in the mode's word."""

    kind: ClassVar[int] = 3

    @classmethod
    def _content_bytes(cls, parameters: Parameters) -> int:
        return parameters.key_bytes

    @classmethod
    def _parse(cls, data: bytes) -> tuple[Mode, int, bytes]:
        mode, holder, content = super()._parse(data)
        parameters = OF_MODE[mode]
        residues = np.frombuffer(content, parameters.word).reshape(len(parameters.primes), -1)
        if np.any(residues >= np.array(parameters.primes, parameters.word)[:, None]):
            raise cls._malformed("a residue is not below its prime")
        return mode, holder, content


@dataclass(frozen=True)
class Confirmation(_Public):
    """The digest of the key that a holder arrived at, 32 bytes."""

    kind: ClassVar[int] = 4


@dataclass(frozen=True)
class Handover(_Message):
    """One component of the secret, for the partner of the holder that drew it and nobody else."""

    kind: ClassVar[int] = 5

    component: Component

    def to_bytes(self) -> SecretBytes:
        """Returns the byte form, which has to be encrypted on its way."""
        return SecretBytes(self._head() + self.component.serialise())

    @classmethod
    def from_bytes(cls, data: SecretBytes) -> Self:
        """Reads the byte form.

        Raises:
            IntegrityError: `CEREMONY_MALFORMED`; the sender's.
        """
        mode, holder, content = cls._parse(data.expose())
        component = Component.read(content, OF_MODE[mode].degree)
        if component is None:
            raise cls._malformed("a coefficient is not -1, 0 or 1")
        return cls(mode, holder, component)

    @classmethod
    def _content_bytes(cls, parameters: Parameters) -> int:
        return SEED_BYTES + parameters.degree
