"""Private keys that are made in a PKCS#11 token and never leave it."""

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from finsecure_crypto.errors import ConfigurationError, IntegrityError
from finsecure_crypto.randomness import Randomness, draw
from finsecure_crypto.signatures import RSA_BITS, SignatureAlgorithm, load_public_key, verify
from pkcs11 import MGF, Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import (
    encode_ec_public_key,
    encode_ecdsa_signature,
    encode_named_curve_parameters,
)

from finsecure_keyservice.protection.token import Token, require_session

_ID_BYTES = 16
_P256 = "secp256r1"
_ED25519 = "1.3.101.112"
_PSS_PARAMETERS = (Mechanism.SHA512, MGF.SHA512, 64)
_NEVER_OUT = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}


class Pkcs11Keys:
    """`TokenKeys` of a PKCS#11 token.

    All keys have one label; each has a random id of 16 bytes.

    Args:
        token: where they are.
        label: that they get.
        randomness: where ids come from; keys come from the token.
    """

    algorithms = frozenset(
        {
            SignatureAlgorithm.EC_P256_SHA256,
            SignatureAlgorithm.ED25519,
            SignatureAlgorithm.RSA_4096_PSS_SHA512,
        }
    )

    def __init__(self, token: Token, label: str, randomness: Randomness = os.urandom) -> None:
        self._token = token
        self._label = label
        self._randomness = randomness

    def generate(self, algorithm: SignatureAlgorithm) -> tuple[bytes, "TokenSigner"]:
        """See `TokenKeys`."""
        key_id = draw(self._randomness, _ID_BYTES)
        self._token.run(lambda session: self._generate(session, algorithm, key_id))
        return key_id, self.open(algorithm, key_id)

    def open(self, algorithm: SignatureAlgorithm, key_id: bytes) -> "TokenSigner":
        """See `TokenKeys`; the key proves that it fits its public key.

        Raises:
            IntegrityError: TOKEN_KEY_MISMATCH if it does not.
        """

        def read(session: pkcs11.Session) -> bytes:
            public = self._token.find(session, ObjectClass.PUBLIC_KEY, self._label, key_id)
            return _encode_public(algorithm, public)

        public_key = self._token.run(read)
        load_public_key(algorithm, public_key)
        signer = TokenSigner(self._token, self._label, key_id, algorithm, public_key)
        probe = b"finsecure token key probe"
        if not verify(algorithm, public_key, signer.sign(probe), probe):
            raise IntegrityError(
                "TOKEN_KEY_MISMATCH",
                "a private key in the token does not fit its public key; restore the token's "
                "backup",
            )
        return signer

    def find(self, algorithm: SignatureAlgorithm, public_key: bytes) -> "TokenSigner":
        """The key under the label that has a public key (SubjectPublicKeyInfo, DER).

        Raises:
            ConfigurationError: TOKEN_KEY_MISSING.
        """

        def ids(session: pkcs11.Session) -> list[bytes]:
            require_session(session)
            wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: self._label}
            return [bytes(found[Attribute.ID]) for found in list(session.get_objects(wanted))]

        for key_id in self._token.run(ids):
            signer = self.open(algorithm, key_id)
            if signer.public_key == public_key:
                return signer
        raise ConfigurationError(
            "TOKEN_KEY_MISSING",
            f"the token has no key {self._label} of this certificate; use the token that it was "
            "made with, or correct `key_label`",
        )

    def close(self) -> None:
        """See `TokenKeys`."""
        self._token.close()

    def destroy(self, key_id: bytes) -> None:
        """See `TokenKeys`."""

        def act(session: pkcs11.Session) -> None:
            require_session(session)
            wanted = {Attribute.LABEL: self._label, Attribute.ID: key_id}
            for found in list(session.get_objects(wanted)):
                found.destroy()

        self._token.run(act)

    def _generate(
        self, session: pkcs11.Session, algorithm: SignatureAlgorithm, key_id: bytes
    ) -> None:
        options: dict[str, Any] = {
            "id": key_id,
            "label": self._label,
            "store": True,
            "private_template": _NEVER_OUT,
        }
        if algorithm is SignatureAlgorithm.RSA_4096_PSS_SHA512:
            session.generate_keypair(KeyType.RSA, RSA_BITS, **options)
            return
        on_p256 = algorithm is SignatureAlgorithm.EC_P256_SHA256
        curve = encode_named_curve_parameters(_P256 if on_p256 else _ED25519)
        parameters = session.create_domain_parameters(
            KeyType.EC if on_p256 else KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: curve}, local=True
        )
        mechanism = Mechanism.EC_KEY_PAIR_GEN if on_p256 else Mechanism.EC_EDWARDS_KEY_PAIR_GEN
        parameters.generate_keypair(mechanism=mechanism, **options)


@dataclass(frozen=True)
class TokenSigner:
    """A signer whose private key stays in its token."""

    _token: Token = field(repr=False)
    _label: str
    _key_id: bytes
    algorithm: SignatureAlgorithm
    public_key: bytes = field(repr=False)

    def sign(self, data: bytes) -> bytes:
        """See `Signer`."""
        return self._token.run(lambda session: self._sign(session, data))

    def _sign(self, session: pkcs11.Session, data: bytes) -> bytes:
        key = self._token.find(session, ObjectClass.PRIVATE_KEY, self._label, self._key_id)
        if self.algorithm is SignatureAlgorithm.EC_P256_SHA256:
            # Hashed here: not every token has ECDSA with a hash of its own.
            digest = hashlib.sha256(data).digest()
            return encode_ecdsa_signature(key.sign(digest, mechanism=Mechanism.ECDSA))
        if self.algorithm is SignatureAlgorithm.ED25519:
            return bytes(key.sign(data, mechanism=Mechanism.EDDSA))
        return bytes(
            key.sign(
                data,
                mechanism=Mechanism.SHA512_RSA_PKCS_PSS,
                mechanism_param=_PSS_PARAMETERS,
            )
        )


def _encode_public(algorithm: SignatureAlgorithm, public: Any) -> bytes:
    if algorithm is SignatureAlgorithm.EC_P256_SHA256:
        return encode_ec_public_key(public)
    if algorithm is SignatureAlgorithm.ED25519:
        # The point is an octet string of 32 bytes (PKCS #11 3.1, section 6.3.5).
        key: Any = ed25519.Ed25519PublicKey.from_public_bytes(public[Attribute.EC_POINT][-32:])
    else:
        modulus = int.from_bytes(public[Attribute.MODULUS], "big")
        exponent = int.from_bytes(public[Attribute.PUBLIC_EXPONENT], "big")
        key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
