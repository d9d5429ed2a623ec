"""Where private keys lie: in the store, wrapped, or in a token that they never leave.

A vault gives an opaque handle for each key. A handle of a wrapped key *is* the key, wrapped and
bound to its context; a handle of a token's key names an object in the token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signatures import SignatureAlgorithm, Signer, SoftwareSigner

from finsecure_keyservice.protection.kek import KeyEncryptionKey, rejected, rewrapped

_WRAPPED = b"W"
_IN_TOKEN = b"T"


class TokenKeys(Protocol):
    """Keys that live in a token; safe to call from any thread, blocking."""

    @property
    def algorithms(self) -> frozenset[SignatureAlgorithm]:
        """What the token can hold."""

    def generate(self, algorithm: SignatureAlgorithm) -> tuple[bytes, Signer]:
        """Make a key; returns its id in the token and the signer."""

    def open(self, algorithm: SignatureAlgorithm, key_id: bytes) -> Signer:
        """Find a key again."""

    def destroy(self, key_id: bytes) -> None:
        """Destroy a key in the token; one that is gone already is no error."""

    def close(self) -> None:
        """Log out of the token."""


@dataclass(frozen=True)
class Stored:
    """A key as the store remembers it.

    Attributes:
        handle: what opens it again.
        in_token: whether the private key lies in a token.
        signer: the open key.
    """

    handle: bytes
    in_token: bool
    signer: Signer


@dataclass(frozen=True)
class Vault:
    """Makes, opens and destroys private keys. All methods block, and raise what `Token` raises.

    Attributes:
        kek: wraps what the token cannot hold, or everything where there is no token.
        token: the token's keys, where there is one.
    """

    kek: KeyEncryptionKey
    token: TokenKeys | None = None

    def generate(
        self, algorithm: SignatureAlgorithm, context: bytes | Callable[[bytes], bytes]
    ) -> Stored:
        """Make a private key, in the token if that can hold it.

        Args:
            algorithm: what it signs with.
            context: whose it is, or what tells that from its public key; it opens for the same
                context only.
        """
        if self.token is not None and algorithm in self.token.algorithms:
            key_id, signer = self.token.generate(algorithm)
            return Stored(_IN_TOKEN + key_id, in_token=True, signer=signer)
        made = SoftwareSigner.generate(algorithm)
        return self.keep(made, context if isinstance(context, bytes) else context(made.public_key))

    def keep(self, signer: SoftwareSigner, context: bytes) -> Stored:
        """Wrap a private key that exists, such as an imported one."""
        handle = _WRAPPED + self.kek.wrap(signer.export(), context)
        return Stored(handle, in_token=False, signer=signer)

    def open(self, algorithm: SignatureAlgorithm, handle: bytes, context: bytes) -> Signer:
        """Open a key.

        Raises:
            IntegrityError: WRAPPED_KEY_REJECTED.
            ConfigurationError: TOKEN_KEY_MISSING if the token lacks it.
        """
        if handle.startswith(_WRAPPED):
            return SoftwareSigner.load(algorithm, self.kek.unwrap(handle[1:], context))
        return self._token_keys(handle).open(algorithm, handle[1:])

    def keep_secret(self, secret: SecretBytes, context: bytes) -> bytes:
        """Wrap a symmetric key; returns its handle."""
        return _WRAPPED + self.kek.wrap(secret, context)

    def open_secret(self, handle: bytes, context: bytes) -> SecretBytes:
        """Unwrap a symmetric key.

        Raises:
            IntegrityError: WRAPPED_KEY_REJECTED.
        """
        if not handle.startswith(_WRAPPED):
            raise rejected()
        return self.kek.unwrap(handle[1:], context)

    def rewrap(self, handle: bytes, context: bytes) -> bytes:
        """The handle under the newest version of the key-encryption key; a token's stays."""
        if not handle.startswith(_WRAPPED):
            return handle
        return _WRAPPED + rewrapped(self.kek, handle[1:], context)

    def destroy(self, handle: bytes) -> None:
        """Destroy what lies in the token; the handle itself is the store's to forget."""
        if handle.startswith(_IN_TOKEN):
            self._token_keys(handle).destroy(handle[1:])

    def close(self) -> None:
        """Log out of the token, where there is one; the vault is of no use after that."""
        if self.token is not None:
            self.token.close()

    def _token_keys(self, handle: bytes) -> TokenKeys:
        if not handle.startswith(_IN_TOKEN) or self.token is None:
            raise IntegrityError(
                "WRAPPED_KEY_REJECTED",
                "a stored key lies in a token, and no token is configured; restore `[protection]`",
            )
        return self.token
