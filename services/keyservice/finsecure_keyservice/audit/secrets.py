"""The two keys of an audit log, derived from the one secret in the state folder."""

from dataclasses import dataclass

from finsecure_crypto.agreement import derive
from finsecure_crypto.checkpoint import LogSigner
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.transcript import encode


@dataclass(frozen=True)
class AuditSecrets:
    """What signs checkpoints and what seals details.

    Attributes:
        signer: Ed25519 key of the log, with the log's name.
        seal_key: HMAC key, 32 bytes.
    """

    signer: LogSigner
    seal_key: SecretBytes

    @classmethod
    def derive(cls, secret: SecretBytes, origin: str) -> "AuditSecrets":
        """Derive both keys of a log from its 32-byte secret (HKDF-SHA-256)."""
        seed = derive(secret, b"", encode("audit-checkpoint-seed", origin))
        seal_key = derive(secret, b"", encode("audit-seal-key", origin))
        return cls(LogSigner.from_seed(origin, seed), seal_key)


def log_origin(domain: str) -> str:
    """Name of the key service's audit log."""
    return f"{domain}/audit"
