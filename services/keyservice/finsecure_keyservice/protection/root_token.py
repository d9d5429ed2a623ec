"""The root's key in a token of its own, which is not there while the key service runs."""

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.signatures import SignatureAlgorithm

from finsecure_keyservice.protection.authority_key import authority_key
from finsecure_keyservice.protection.opening import open_token
from finsecure_keyservice.protection.settings import FileProtection, RootToken, TokenProtection

if TYPE_CHECKING:
    from finsecure_keyservice.protection.token_keys import Pkcs11Keys

_ALGORITHM = SignatureAlgorithm.EC_P256_SHA256


def require_apart(root: RootToken, protection: FileProtection | TokenProtection) -> None:
    """Refuse a token that the key service itself uses: that one stays online.

    Raises:
        ConfigurationError: ROOT_TOKEN_SHARED.
    """
    if isinstance(protection, TokenProtection) and protection.token_label == root.token_label:
        raise ConfigurationError(
            "ROOT_TOKEN_SHARED",
            f"the token {root.token_label} is the key service's own, which stays online; put the "
            "root's key into another one, with another label",
        )


def create_root_key(settings: RootToken) -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key in the token, which it never leaves.

    Raises:
        ConfigurationError, UnavailableError: as `open_token` and `Token`.
    """
    _, signer = _keys(settings).generate(_ALGORITHM)
    return authority_key(signer)


def open_root_key(settings: RootToken, root: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    """Find the key of a root certificate in the token.

    Raises:
        ConfigurationError: TOKEN_KEY_MISSING, or as `open_token` and `Token`.
        UnavailableError: as `Token`.
    """
    public = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return authority_key(_keys(settings).find(_ALGORITHM, public))


def _keys(settings: RootToken) -> "Pkcs11Keys":
    token = open_token(settings)
    from finsecure_keyservice.protection.token_keys import Pkcs11Keys

    return Pkcs11Keys(token, settings.key_label)
