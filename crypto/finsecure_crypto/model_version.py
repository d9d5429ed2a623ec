"""What the aggregator signs about each version of a global model, and clients verify at load."""

from dataclasses import dataclass

from finsecure_crypto import signing
from finsecure_crypto.errors import IntegrityError

_LABEL = "model-version"


@dataclass(frozen=True)
class ModelVersion:
    """The signed description of one version of a task's global model.

    Attributes:
        name: `federations/{federation}/tasks/{task}/models/{version}`.
        version: from 0.
        sha256: of the safetensors file.
        size_bytes: of the safetensors file.
        parent_sha256: of the version before; empty for version 0.
        round: resource name of the round that made it; empty for version 0.
        create_time_ns: nanoseconds since the Unix epoch.
    """

    name: str
    version: int
    sha256: bytes
    size_bytes: int
    parent_sha256: bytes
    round: str
    create_time_ns: int

    def sign(self, key: signing.SigningKey) -> bytes:
        """Sign the description with the aggregator's Ed25519 key; 64 bytes."""
        return key.sign(_LABEL, *self._parts())

    def verify(self, public_key: bytes, signature: bytes) -> None:
        """Check the signature under the public key of a verified aggregator certificate.

        Raises:
            IntegrityError: MODEL_SIGNATURE_REJECTED; the file must not be used.
        """
        if not signing.verify(public_key, signature, _LABEL, *self._parts()):
            raise IntegrityError(
                "MODEL_SIGNATURE_REJECTED",
                f"the signature of {self.name} does not verify; do not use the model, and ask the "
                "operator of the aggregator",
            )

    def _parts(self) -> tuple[bytes | int | str, ...]:
        return (
            self.name,
            self.version,
            self.sha256,
            self.size_bytes,
            self.parent_sha256,
            self.round,
            self.create_time_ns,
        )
