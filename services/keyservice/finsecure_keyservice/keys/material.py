"""The keys of versions: making, importing, using them. Whoever calls has checked the state.

All methods may block on a token, and raise what `Token` raises.
"""

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from finsecure_crypto import aead, transcript
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError, StateError
from finsecure_crypto.key_import import unwrap_import
from finsecure_crypto.randomness import Randomness, draw, draw_secret
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signatures import Signer, SoftwareSigner

from finsecure_keyservice.keys.records import ImportJob, KeyAlgorithm, KeyVersion
from finsecure_keyservice.protection.vault import Vault

JOB_LIFETIME = timedelta(days=1)
_VERSION_BYTES = 4


@dataclass(frozen=True)
class Made:
    """A key that was made or imported.

    Attributes:
        handle: what the vault opens it by.
        public_key: SubjectPublicKeyInfo, DER; None for a symmetric key.
        in_token: whether it lies in a token.
    """

    handle: bytes
    public_key: bytes | None
    in_token: bool

    @property
    def digest(self) -> bytes | None:
        """SHA-256 of the public key, as it is published."""
        return None if self.public_key is None else hashlib.sha256(self.public_key).digest()


@dataclass(frozen=True)
class Material:
    """The keys of all versions, in one vault."""

    vault: Vault
    randomness: Randomness = os.urandom

    def make(self, algorithm: KeyAlgorithm, version: str) -> Made:
        """Make the key of a version."""
        if algorithm is KeyAlgorithm.AES_256_GCM:
            return self._keep_symmetric(draw_secret(self.randomness, aead.KEY_BYTES), version)
        stored = self.vault.generate(algorithm.signature, _context(version))
        return Made(stored.handle, stored.signer.public_key, stored.in_token)

    def make_job(self, name: str, parent: str, now: datetime) -> ImportJob:
        """Make an import job."""
        secret = draw_secret(self.randomness, 32)
        public = X25519PrivateKey.from_private_bytes(secret.expose()).public_key()
        handle = self.vault.keep_secret(secret, _job_context(name))
        expire_time = now + JOB_LIFETIME
        return ImportJob(name, parent, public.public_bytes_raw(), handle, now, expire_time)

    def take(
        self, job: ImportJob, wrapped: bytes, algorithm: KeyAlgorithm, version: KeyVersion
    ) -> Made:
        """Take over the key of a version that somebody else made.

        Raises:
            IntegrityError: WRAPPED_KEY_REJECTED; the caller's.
            InvalidArgumentError: KEY_MALFORMED, KEY_ALGORITHM; the caller's.
        """
        private = self.vault.open_secret(job.handle, _job_context(job.name))
        key = unwrap_import(wrapped, job.name, private, version.key)
        if algorithm is KeyAlgorithm.AES_256_GCM:
            if len(key) != aead.KEY_BYTES:
                raise InvalidArgumentError("KEY_MALFORMED", "an AES-256 key has 32 bytes")
            return self._keep_symmetric(key, version.name)
        signer = SoftwareSigner.load(algorithm.signature, key)
        stored = self.vault.keep(signer, _context(version.name))
        return Made(stored.handle, signer.public_key, stored.in_token)

    def signer(self, algorithm: KeyAlgorithm, version: KeyVersion) -> Signer:
        """Open the signing key of a version.

        Raises:
            IntegrityError: WRAPPED_KEY_REJECTED.
        """
        return self.vault.open(algorithm.signature, _handle(version), _context(version.name))

    def wrap(self, version: KeyVersion, data_key: SecretBytes, associated: bytes) -> bytes:
        """Encrypt a data key under a version: its number (u32), nonce, ciphertext, tag.

        Raises:
            IntegrityError: WRAPPED_KEY_REJECTED; the store's fault.
        """
        key = self.vault.open_secret(_handle(version), _context(version.name))
        bound = transcript.encode("data-key", version.name, associated)
        sealed = aead.seal(key, data_key, bound, self.randomness)
        return version.number.to_bytes(_VERSION_BYTES, "big") + sealed

    def unwrap(self, version: KeyVersion, wrapped: bytes, associated: bytes) -> SecretBytes:
        """Decrypt what `wrap` returned for the same version and associated data.

        Raises:
            IntegrityError: DATA_KEY_REJECTED, the caller's; WRAPPED_KEY_REJECTED, the store's.
        """
        key = self.vault.open_secret(_handle(version), _context(version.name))
        bound = transcript.encode("data-key", version.name, associated)
        try:
            return aead.open_(key, wrapped[_VERSION_BYTES:], bound)
        except IntegrityError:
            raise _rejected() from None

    def rewrap(self, version: KeyVersion) -> bytes:
        """The handle of a version under the newest version of the key-encryption key."""
        return self.vault.rewrap(_handle(version), _context(version.name))

    def rewrap_job(self, job: ImportJob) -> bytes:
        """The handle of an import job under the newest version of the key-encryption key."""
        return self.vault.rewrap(job.handle, _job_context(job.name))

    def destroy(self, handle: bytes) -> None:
        """Destroy what lies in the token."""
        self.vault.destroy(handle)

    def _keep_symmetric(self, key: SecretBytes, version: str) -> Made:
        return Made(self.vault.keep_secret(key, _context(version)), None, in_token=False)


def wrapping_version(wrapped: bytes) -> int:
    """Number of the version that wrapped a data key.

    Raises:
        IntegrityError: DATA_KEY_REJECTED.
    """
    number = int.from_bytes(wrapped[:_VERSION_BYTES], "big")
    if len(wrapped) < _VERSION_BYTES + aead.OVERHEAD_BYTES or number == 0:
        raise _rejected()
    return number


def new_job_id(randomness: Randomness) -> str:
    """A fresh id of an import job."""
    return f"job-{draw(randomness, 8).hex()}"


def require_open(job: ImportJob, now: datetime) -> None:
    """Refuse an import job whose time is over.

    Raises:
        StateError: IMPORT_JOB_EXPIRED.
    """
    if now >= job.expire_time:
        raise StateError("IMPORT_JOB_EXPIRED", f"{job.name} has expired; make a new one")


def _context(version: str) -> bytes:
    return transcript.encode("key-version", version)


def _job_context(job: str) -> bytes:
    return transcript.encode("import-job", job)


def _handle(version: KeyVersion) -> bytes:
    assert version.handle is not None  # noqa: S101  # its state says that it has one
    return version.handle


def _rejected() -> IntegrityError:
    return IntegrityError(
        "DATA_KEY_REJECTED",
        "the wrapped data key was changed, or was wrapped under another key or with other "
        "associated data",
    )
