"""Checkpoints of a log: its size and root as a signed note.

Formats: C2SP tlog-checkpoint and C2SP signed-note, signature type Ed25519 (0x01), so that any
tool for transparency logs can read, check and cosign them.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.merkle import EMPTY_ROOT, HASH_BYTES
from finsecure_crypto.secret import SecretBytes

MAXIMUM_NOTE_BYTES = 4096
MAXIMUM_SIZE = 2**63 - 1

_ED25519 = b"\x01"
_ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}", re.ASCII)
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_SIGNATURE_LINE = re.compile(r"\u2014 ([^ +\n]+) ([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True)
class Checkpoint:
    """What a log commits to.

    Attributes:
        origin: name of the log, unique and without a scheme, such as `finsecure.example/audit`.
        size: number of leaves.
        root: Merkle tree hash, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse what no log says.

        Raises:
            InvalidArgumentError: `CHECKPOINT_MALFORMED`; the caller's.
        """
        if (
            _ORIGIN.fullmatch(self.origin) is None
            or not 0 <= self.size <= MAXIMUM_SIZE
            or len(self.root) != HASH_BYTES
            or (self.size == 0) != (self.root == EMPTY_ROOT)
        ):
            raise InvalidArgumentError("CHECKPOINT_MALFORMED", "this is no checkpoint of a log")

    @property
    def body(self) -> str:
        """The text that is signed: three lines."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


@dataclass(frozen=True)
class LogVerifier:
    """The public key of a log, with the log's name.

    Attributes:
        origin: name of the log and of its key.
        public: Ed25519 public key, 32 bytes.
    """

    origin: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """First four bytes of SHA-256(name ‖ newline ‖ 0x01 ‖ key)."""
        pre_image = self.origin.encode() + b"\n" + _ED25519 + self.public
        return hashlib.sha256(pre_image).digest()[:4]

    def serialise(self) -> str:
        """The verifier key as people hand it on: `name+id in hexadecimal+base64`."""
        return f"{self.origin}+{self.key_id.hex()}+{_base64(_ED25519 + self.public)}"

    @classmethod
    def parse(cls, text: str) -> "LogVerifier":
        """Reads a verifier key.

        Raises:
            InvalidArgumentError: `VERIFIER_KEY_MALFORMED`; the caller's.
        """
        origin, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        verifier = cls(origin, raw[1:])
        if (
            _ORIGIN.fullmatch(origin) is None
            or len(raw) != 33
            or raw[:1] != _ED25519
            or verifier.key_id.hex() != key_id
        ):
            raise InvalidArgumentError(
                "VERIFIER_KEY_MALFORMED",
                "this is not a whole verifier key of a log; copy all of it again",
            )
        return verifier

    def open(self, note: str) -> Checkpoint:
        """Checks a signed checkpoint and returns it.

        Signatures of others (witnesses, another key of the log) may stand beside this key's; they
        are not looked at.

        Raises:
            IntegrityError: `CHECKPOINT_MALFORMED` or `CHECKPOINT_UNTRUSTED`; the fault of
                whoever gave the note.
        """
        body, gap, signatures = note.rpartition("\n\n")
        if not gap or len(note) > MAXIMUM_NOTE_BYTES:
            raise _malformed()
        checkpoint = _parse_body(body + "\n")
        lines = signatures.split("\n")
        if lines.pop() != "" or not lines:
            raise _malformed()
        for line in lines:
            match = _SIGNATURE_LINE.fullmatch(line)
            if match is None:
                raise _malformed()
            if match[1] == self.origin and self._signed(match[2], body + "\n"):
                if checkpoint.origin != self.origin:
                    break
                return checkpoint
        raise IntegrityError(
            "CHECKPOINT_UNTRUSTED",
            f"the checkpoint carries no signature of the log {self.origin} that verifies",
        )

    def has_signed(self, note: str) -> bool:
        """Whether this key signed a checkpoint.

        Raises:
            IntegrityError: `CHECKPOINT_MALFORMED`; the fault of whoever gave the note.
        """
        try:
            self.open(note)
        except IntegrityError as error:
            if error.code == "CHECKPOINT_UNTRUSTED":
                return False
            raise
        return True

    def _signed(self, encoded: str, body: str) -> bool:
        try:
            blob = base64.b64decode(encoded, validate=True)
            if blob[:4] != self.key_id:
                return False
            Ed25519PublicKey.from_public_bytes(self.public).verify(blob[4:], body.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class LogSigner:
    """The private key of a log."""

    verifier: LogVerifier
    _private: Ed25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, origin: str, seed: SecretBytes) -> "LogSigner":
        """Makes the signer of a log from its 32-byte Ed25519 seed (RFC 8032)."""
        private = Ed25519PrivateKey.from_private_bytes(seed.expose())
        return cls(LogVerifier(origin, private.public_key().public_bytes_raw()), private)

    def sign(self, size: int, root: bytes, *others: "LogSigner") -> str:
        """Returns the signed checkpoint of a tree.

        Args:
            size: number of leaves.
            root: Merkle tree hash, 32 bytes.
            *others: keys that sign the same text beside this one, a line each.

        Raises:
            InvalidArgumentError: `CHECKPOINT_MALFORMED`; the caller's.
        """
        body = Checkpoint(self.verifier.origin, size, root).body
        return f"{body}\n" + "".join(signer._line(body) for signer in (self, *others))

    def _line(self, body: str) -> str:
        signature = self.verifier.key_id + self._private.sign(body.encode())
        return f"\u2014 {self.verifier.origin} {_base64(signature)}\n"


def _parse_body(body: str) -> Checkpoint:
    lines = body.split("\n")
    try:
        origin, size, root = lines[:3]
        if _SIZE.fullmatch(size) is None or lines[-1] != "" or "" in lines[:-1]:
            raise ValueError
        raw = base64.b64decode(root, validate=True)
        if _base64(raw) != root:  # only one spelling counts
            raise ValueError
        return Checkpoint(origin, int(size), raw)
    except (ValueError, InvalidArgumentError) as error:
        raise _malformed() from error


def _malformed() -> IntegrityError:
    return IntegrityError("CHECKPOINT_MALFORMED", "this is no signed checkpoint of a log")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
