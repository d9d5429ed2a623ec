"""The key-encryption key: wraps every private key, share and secret before it is stored.

Layout of wrapped bytes: format (1 octet, 1) ‖ version of the key (u32, big-endian) ‖ nonce
(12 bytes) ‖ ciphertext ‖ tag (16 bytes), AES-256-GCM (NIST SP 800-38D). The associated data is
the transcript of format, key version and context, so what was wrapped for one purpose or place
opens in no other. A version wraps at most 2^32 secrets before random nonces may collide.
"""

from typing import NamedTuple, Protocol

from finsecure_crypto import transcript
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.secret import SecretBytes

_FORMAT = 1
_HEAD_BYTES = 5


class KeyEncryptionKey(Protocol):
    """Wraps and unwraps secrets; safe to call from any thread, blocking.

    Another process may rotate it at any time: the newest version is looked for before each `wrap`.
    """

    @property
    def version(self) -> int:
        """The version that wraps now; older ones still unwrap.

        Raises:
            UnavailableError, ConfigurationError: as `check`.
        """

    def wrap(self, secret: SecretBytes, context: bytes) -> bytes:
        """Encrypt a secret for storage, bound to a context.

        Args:
            secret: up to 64 KiB.
            context: what the secret is and whose; a transcript digest or a resource name.

        Raises:
            UnavailableError, ConfigurationError: as `check`; nothing is wrapped by a version that
                may not be the newest.
        """

    def unwrap(self, wrapped: bytes, context: bytes) -> SecretBytes:
        """Decrypt what `wrap` returned for the same context.

        A version that another process has made meanwhile is found.

        Raises:
            IntegrityError: WRAPPED_KEY_REJECTED when the bytes were changed, belong to another
                context, or to another key; restore the store and the key that belong together.
            UnavailableError, ConfigurationError: the token cannot be used; see `Token`.
        """

    def rotate(self) -> int:
        """Make the next version and wrap with it from now on; returns its number.

        Raises:
            UnavailableError, ConfigurationError: as `check`.
        """

    def check(self) -> None:
        """Return if the key can be used now; readiness hangs on it.

        Raises:
            UnavailableError, ConfigurationError: the token cannot be used, see `Token`; or the key
                file was replaced since and cannot be read, see `FileKek`.
        """


class Wrapped(NamedTuple):
    """The parts of wrapped bytes.

    Attributes:
        version: of the key that wrapped.
        sealed: nonce, ciphertext and tag.
    """

    version: int
    sealed: bytes


def associated_data(version: int, context: bytes) -> bytes:
    """The associated data under which a version wraps."""
    return transcript.encode("key-wrap", _FORMAT, version, context)


def join(version: int, sealed: bytes) -> bytes:
    """Put the parts together."""
    return bytes([_FORMAT]) + version.to_bytes(4, "big") + sealed


def parse(wrapped: bytes) -> Wrapped:
    """Take wrapped bytes apart.

    Raises:
        IntegrityError: WRAPPED_KEY_REJECTED for another format.
    """
    if len(wrapped) < _HEAD_BYTES or wrapped[0] != _FORMAT:
        raise rejected()
    return Wrapped(int.from_bytes(wrapped[1:_HEAD_BYTES], "big"), wrapped[_HEAD_BYTES:])


def rewrapped(kek: KeyEncryptionKey, wrapped: bytes, context: bytes) -> bytes:
    """The same secret under the newest version of the key.

    Raises:
        IntegrityError: WRAPPED_KEY_REJECTED.
        UnavailableError, ConfigurationError: the token cannot be used; see `Token`.
    """
    return kek.wrap(kek.unwrap(wrapped, context), context)


def rejected() -> IntegrityError:
    """The one error for whatever does not unwrap."""
    return IntegrityError(
        "WRAPPED_KEY_REJECTED",
        "a stored secret does not open: it was changed or moved, or was wrapped by another "
        "key-encryption key; restore the database and the key that belong together",
    )
