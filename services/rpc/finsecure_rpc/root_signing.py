"""Signing the request of an intermediate authority with the root's key, away from any network."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.intermediate import certify_request

from finsecure_rpc.durable import read_secret, write_file


def sign_request(
    csr: Path,
    root: Path,
    root_key: Callable[[x509.Certificate], ec.EllipticCurvePrivateKey],
    target: Path,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Certify the request in a file and write the certificate (PEM) into a new file.

    Args:
        csr: file with the request.
        root: file with the root certificate.
        root_key: finds the key of the root certificate, in a file or in a token.
        target: new file for the certificate.
        now: the time.
        lifetime: of the certificate.

    Raises:
        ConfigurationError: FILE_EXISTS, FILE_UNREADABLE, or what `root_key` raises.
        UnavailableError: what `root_key` raises.
        InvalidArgumentError, StateError, AuthenticationError: as `certify_request`.
    """
    if target.exists():
        raise ConfigurationError("FILE_EXISTS", f"{target} exists; name a new file")
    try:
        request = x509.load_pem_x509_csr(csr.read_bytes()).public_bytes(Encoding.DER)
        certificate = x509.load_pem_x509_certificate(root.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            "FILE_UNREADABLE",
            f"{csr} and {root} have to be a request and the root certificate in PEM ({error})",
        ) from error
    made = certify_request(request, certificate, root_key(certificate), now, lifetime)
    write_file(target, made.public_bytes(Encoding.PEM), mode=0o644)
    return made


def read_root_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the root's private key in PEM.

    Raises:
        ConfigurationError: FILE_UNREADABLE, KEY_FILE_EXPOSED.
    """
    try:
        key = load_pem_private_key(read_secret(path), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            "FILE_UNREADABLE", f"{path} has to be the root's private key in PEM ({error})"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError("FILE_UNREADABLE", f"{path} is not the key of such a root")
    return key


def read_certificate(path: Path) -> bytes:
    """Read a certificate in PEM as DER.

    Raises:
        ConfigurationError: FILE_UNREADABLE.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            "FILE_UNREADABLE", f"{path} has to be a certificate in PEM ({error})"
        ) from error


def write_request(target: Path, csr_der: bytes) -> None:
    """Write a request (PEM) into a new file.

    Raises:
        ConfigurationError: FILE_EXISTS.
    """
    if target.exists():
        raise ConfigurationError("FILE_EXISTS", f"{target} exists; name a new file")
    request = x509.load_der_x509_csr(csr_der)
    write_file(target, request.public_bytes(Encoding.PEM), mode=0o644)
