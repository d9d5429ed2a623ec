"""A key-encryption key that lives in a PKCS#11 token: the bytes to wrap go in, never the key out.

Each version is an AES-256 object of the token: same label, the version as its id (u32).
"""

import os
from typing import Any

import pkcs11
from finsecure_crypto import aead
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.randomness import Randomness, draw
from finsecure_crypto.secret import SecretBytes
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, exceptions

from finsecure_keyservice.protection import kek
from finsecure_keyservice.protection.token import Token, require_session

# What tokens say about a wrong tag; SoftHSM says GeneralError.
_WRONG_TAG = (
    exceptions.EncryptedDataInvalid,
    exceptions.EncryptedDataLenRange,
    exceptions.GeneralError,
)


class TokenKek:
    """`KeyEncryptionKey` of a token."""

    def __init__(self, token: Token, label: str, randomness: Randomness = os.urandom) -> None:
        self._token = token
        self._label = label
        self._randomness = randomness
        self._known = 0  # the newest version that was seen

    @classmethod
    def create(cls, token: Token, label: str) -> "TokenKek":
        """Make the first version in the token.

        Raises:
            ConfigurationError: ALREADY_INITIALISED; nothing was changed.
            UnavailableError, ConfigurationError: as `Token`.
        """
        if token.run(lambda session: _newest(session, label)):
            raise ConfigurationError(
                "ALREADY_INITIALISED",
                f"the token has a key {label} already; nothing was changed. Name another "
                "`key_label` or another token",
            )
        token.run(lambda session: _generate(session, label, 1))
        return cls(token, label)

    @property
    def version(self) -> int:
        """See `KeyEncryptionKey`."""
        return self._token.run(self._require_newest)

    def wrap(self, secret: SecretBytes, context: bytes) -> bytes:
        """See `KeyEncryptionKey`."""

        def act(session: pkcs11.Session) -> bytes:
            version = self._require_newest(session)  # another process may have rotated
            nonce = draw(self._randomness, aead.NONCE_BYTES)
            sealed = self._key(session, version).encrypt(
                secret.expose(),
                mechanism=Mechanism.AES_GCM,
                mechanism_param=_gcm(nonce, kek.associated_data(version, context)),
            )
            return kek.join(version, nonce + bytes(sealed))

        return self._token.run(act)

    def unwrap(self, wrapped: bytes, context: bytes) -> SecretBytes:
        """See `KeyEncryptionKey`."""
        version, sealed = kek.parse(wrapped)
        if version > self._known:  # another process may have rotated
            self._known = self.version
        if len(sealed) < aead.OVERHEAD_BYTES or not 1 <= version <= self._known:
            raise kek.rejected()
        nonce, body = sealed[: aead.NONCE_BYTES], sealed[aead.NONCE_BYTES :]
        parameters = _gcm(nonce, kek.associated_data(version, context))

        def act(session: pkcs11.Session) -> SecretBytes:
            key = self._key(session, version)
            try:
                return SecretBytes(
                    key.decrypt(body, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
                )
            except _WRONG_TAG:
                # A token that still encrypts is well: then it is the bytes that are not.
                key.encrypt(bytes(16), mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
                raise kek.rejected() from None

        return self._token.run(act)

    def rotate(self) -> int:
        """See `KeyEncryptionKey`."""
        version = self.version + 1
        self._token.run(lambda session: _generate(session, self._label, version))
        return version

    def check(self) -> None:
        """See `KeyEncryptionKey`."""
        # A session may outlive its token: the key itself is looked for.
        self._token.run(self._require_newest)

    def _key(self, session: pkcs11.Session, version: int) -> Any:
        return self._token.find(
            session, ObjectClass.SECRET_KEY, self._label, version.to_bytes(4, "big")
        )

    def _require_newest(self, session: pkcs11.Session) -> int:
        version = _newest(session, self._label)
        if version == 0:
            raise exceptions.NoSuchKey
        return version


def _newest(session: pkcs11.Session, label: str) -> int:
    wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: label}
    require_session(session)
    return max(
        (int.from_bytes(key[Attribute.ID], "big") for key in session.get_objects(wanted)),
        default=0,
    )


def _generate(session: pkcs11.Session, label: str, version: int) -> None:
    session.generate_key(
        KeyType.AES,
        256,
        label=label,
        id=version.to_bytes(4, "big"),
        store=True,
        capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
        template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )


def _gcm(nonce: bytes, associated: bytes) -> pkcs11.GCMParams:
    return pkcs11.GCMParams(nonce, associated, 8 * aead.TAG_BYTES)
