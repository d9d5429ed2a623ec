"""The HMAC key of sealed details, derived from the secret in the state folder."""

from finsecure_crypto.agreement import derive
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.transcript import encode


def seal_key(secret: SecretBytes, origin: str) -> SecretBytes:
    """Derive the key of a log's sealed details, 32 bytes, from its secret (HKDF-SHA-256).

    It lives as long as the log, whatever key signs its checkpoints, so that what was sealed can be
    confirmed later.
    """
    return derive(secret, b"", encode("audit-seal-key", origin))


def log_origin(domain: str) -> str:
    """Name of the key service's audit log."""
    return f"{domain}/audit"
