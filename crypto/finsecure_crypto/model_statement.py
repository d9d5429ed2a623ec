"""Statements about models that a managed key signs: in-toto statements in DSSE envelopes.

Sources: in-toto attestation framework, spec v1 (Statement); DSSE 1.0.2. The payload has one
canonical form (JSON, ASCII, sorted keys, no spaces), and no other is accepted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finsecure_crypto import dsse, transcript
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.model_version import ModelVersion
from finsecure_crypto.signatures import SignatureAlgorithm, Signer, verify

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "urn:finsecure:model-version:v1"


@dataclass(frozen=True)
class ModelStatement:
    """What is said about one version of a global model.

    Attributes:
        version: name, file digest, parent, round and time; see `ModelVersion`.
        architecture: `architecture_digest` of the model, 32 bytes.
        configuration: SHA-256 of the task's specification as the aggregator stored it.
    """

    version: ModelVersion
    architecture: bytes
    configuration: bytes

    def payload(self) -> bytes:
        """Returns the in-toto statement."""
        version = self.version
        statement = {
            "_type": _STATEMENT,
            "subject": [{"name": version.name, "digest": {"sha256": version.sha256.hex()}}],
            "predicateType": _PREDICATE,
            "predicate": {
                "architecture": {"sha256": self.architecture.hex()},
                "configuration": {"sha256": self.configuration.hex()},
                "createTimeNs": version.create_time_ns,
                "lineage": {
                    "parent": {"sha256": version.parent_sha256.hex()},
                    "round": version.round,
                },
                "sizeBytes": version.size_bytes,
                "version": version.version,
            },
        }
        return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, payload: bytes) -> "ModelStatement":
        """Reads an in-toto statement.

        Raises:
            IntegrityError: MODEL_STATEMENT_MALFORMED; of whoever made it.
        """
        try:
            fields: Any = json.loads(payload)
            (subject,) = fields["subject"]
            predicate = fields["predicate"]
            statement = cls(
                version=ModelVersion(
                    name=str(subject["name"]),
                    version=int(predicate["version"]),
                    sha256=_digest(subject["digest"]["sha256"]),
                    size_bytes=int(predicate["sizeBytes"]),
                    parent_sha256=_digest(predicate["lineage"]["parent"]["sha256"], or_none=True),
                    round=str(predicate["lineage"]["round"]),
                    create_time_ns=int(predicate["createTimeNs"]),
                ),
                architecture=_digest(predicate["architecture"]["sha256"]),
                configuration=_digest(predicate["configuration"]["sha256"]),
            )
            if statement.payload() != payload:
                raise ValueError  # another form, other fields, or another kind of statement
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise IntegrityError(
                "MODEL_STATEMENT_MALFORMED", "a statement about a model is malformed; do not use it"
            ) from error
        return statement

    def sign(self, signer: Signer, keyid: str) -> dsse.Envelope:
        """Signs the statement.

        Args:
            signer: of a managed key's version.
            keyid: resource name of that version.

        Raises:
            As `Signer.sign`.
        """
        payload = self.payload()
        signature = signer.sign(dsse.pae(PAYLOAD_TYPE, payload))
        return dsse.Envelope(PAYLOAD_TYPE, payload, (dsse.EnvelopeSignature(keyid, signature),))

    def require_describes(self, version: ModelVersion, architecture: bytes | None) -> None:
        """Refuse a statement about another model than the one that is to be used.

        Args:
            version: what the aggregator says about the model.
            architecture: digest of the architecture that the user has; None where it has none.

        Raises:
            IntegrityError: MODEL_STATEMENT_MISMATCH.
        """
        if self.version != version or architecture not in (None, self.architecture):
            raise IntegrityError(
                "MODEL_STATEMENT_MISMATCH",
                f"the signed statement is not about {version.name} as it was given out; do not use "
                "the model, and ask the operator of the aggregator",
            )


@dataclass(frozen=True)
class VerificationKey:
    """The public half of a managed key's version.

    Attributes:
        algorithm: what it signs with.
        public_key: SubjectPublicKeyInfo, DER.
    """

    algorithm: SignatureAlgorithm
    public_key: bytes


def key_of(envelope: dsse.Envelope) -> str:
    """The version that claims to have signed a model statement.

    Raises:
        IntegrityError: ENVELOPE_MALFORMED if it is no envelope of a statement by one key.
    """
    if envelope.payload_type != PAYLOAD_TYPE or len(envelope.signatures) != 1:
        raise IntegrityError(
            "ENVELOPE_MALFORMED", "this is no envelope of one statement signed by one key"
        )
    return envelope.signatures[0].keyid


def verify_statement(
    envelope: dsse.Envelope, keys: Mapping[str, VerificationKey]
) -> ModelStatement:
    """Verifies an envelope and reads its statement.

    Args:
        envelope: as received.
        keys: the keys that are believed, by resource name of the version.

    Raises:
        IntegrityError: ENVELOPE_MALFORMED, MODEL_STATEMENT_MALFORMED, or
            MODEL_STATEMENT_REJECTED where no believed key signed it.
    """
    keyid = key_of(envelope)
    key = keys.get(keyid)
    signed = dsse.pae(envelope.payload_type, envelope.payload)
    if key is None or not verify(key.algorithm, key.public_key, envelope.signatures[0].sig, signed):
        raise IntegrityError(
            "MODEL_STATEMENT_REJECTED",
            "the signature of a statement about a model does not verify; do not use the model, "
            "and ask the operator of the aggregator",
        )
    return ModelStatement.parse(envelope.payload)


def architecture_digest(factory: str, tensors: Sequence[tuple[str, tuple[int, ...]]]) -> bytes:
    """Digest of a model's architecture, 32 bytes: its factory, and its tensors in order.

    Args:
        factory: `module:function` that builds the model.
        tensors: name and shape of each parameter.
    """
    parts: list[bytes | int | str] = [factory]
    for name, shape in tensors:
        parts += [name, len(shape), *shape]
    return transcript.digest("model-architecture", *parts)


def _digest(text: Any, *, or_none: bool = False) -> bytes:
    if not isinstance(text, str) or (len(text) != 64 and not (or_none and not text)):
        raise ValueError
    return bytes.fromhex(text)
