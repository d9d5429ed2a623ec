"""Statements about models on the wire, and the keys that they are verified with.

Keys come from the key service, never through the aggregator that gives out the models.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import grpc
from finsecure.keyservice.v1 import keys_pb2, keys_pb2_grpc, model_signing_pb2
from finsecure_crypto import dsse
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError, StateError
from finsecure_crypto.model_statement import (
    ModelStatement,
    VerificationKey,
    key_of,
    verify_statement,
)
from finsecure_crypto.model_version import ModelVersion
from finsecure_crypto.signatures import SignatureAlgorithm

from finsecure_rpc.call import stream

_CALL_S = 30.0
_MOST_KEY_BYTES = 4096
_BELIEVED = timedelta(hours=1)

_ALGORITHMS = {
    keys_pb2.KEY_ALGORITHM_ED25519: SignatureAlgorithm.ED25519,
    keys_pb2.KEY_ALGORITHM_RSA_4096_PSS_SHA512: SignatureAlgorithm.RSA_4096_PSS_SHA512,
    keys_pb2.KEY_ALGORITHM_ML_DSA_65: SignatureAlgorithm.ML_DSA_65,
}
_VERIFYING = frozenset(
    {
        keys_pb2.CRYPTO_KEY_VERSION_STATE_ENABLED,
        keys_pb2.CRYPTO_KEY_VERSION_STATE_DEACTIVATED,
    }
)


def statement_to_wire(statement: ModelStatement) -> model_signing_pb2.ModelStatement:
    """Make the wire's form of a statement."""
    version = statement.version
    message = model_signing_pb2.ModelStatement(
        model=version.name,
        version=version.version,
        sha256=version.sha256,
        size_bytes=version.size_bytes,
        parent_sha256=version.parent_sha256,
        round=version.round,
        architecture_sha256=statement.architecture,
        configuration_sha256=statement.configuration,
    )
    message.create_time.FromNanoseconds(version.create_time_ns)
    return message


def statement_from_wire(message: model_signing_pb2.ModelStatement) -> ModelStatement:
    """Read a statement; the proto has checked lengths and the model's name.

    Raises:
        InvalidArgumentError: MODEL_STATEMENT_MALFORMED; the caller's.
    """
    if (
        len(message.parent_sha256) not in (0, 32)
        or not message.round.isascii()
        or message.create_time.seconds < 0
        or not 0 <= message.create_time.nanos < 10**9
        or not message.model.endswith(f"/{message.version}")
    ):
        raise InvalidArgumentError(
            "MODEL_STATEMENT_MALFORMED", "the statement about a model does not hold together"
        )
    return ModelStatement(
        version=ModelVersion(
            name=message.model,
            version=message.version,
            sha256=message.sha256,
            size_bytes=message.size_bytes,
            parent_sha256=message.parent_sha256,
            round=message.round,
            create_time_ns=message.create_time.seconds * 10**9 + message.create_time.nanos,
        ),
        architecture=message.architecture_sha256,
        configuration=message.configuration_sha256,
    )


class ModelKeys:
    """Verifies statements under one managed key, whose versions it fetches from the key service.

    A version is believed for an hour; then its state is asked for again, because a key may have
    been compromised or disabled.

    Args:
        channel: to the key service, authenticated as it.
        key: resource name of the key; versions of no other are believed.
        now: returns the present time, aware UTC.
    """

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        key: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._channel = channel
        self._prefix = f"{key}/cryptoKeyVersions/"
        self._now = now
        self._believed: dict[str, tuple[datetime, VerificationKey]] = {}

    async def prepare(self, envelope: bytes) -> None:
        """Have the key that an envelope claims to be signed by at hand.

        Raises:
            IntegrityError: ENVELOPE_MISSING, ENVELOPE_MALFORMED, MODEL_STATEMENT_REJECTED.
            StateError: KEY_STATE where the version does not verify any more.
            FinSecureError: what the key service says.
        """
        keyid = key_of(_parsed(envelope))
        if not keyid.startswith(self._prefix):
            raise IntegrityError(
                "MODEL_STATEMENT_REJECTED",
                f"a model is signed by {keyid}, which is no version of the key that this side "
                "believes; do not use it",
            )
        found = self._believed.get(keyid)
        if found is None or not found[0] <= self._now() < found[0] + _BELIEVED:
            self._believed.pop(keyid, None)
            self._believed[keyid] = (self._now(), await self._fetch(keyid))

    def verify(
        self, envelope: bytes, version: ModelVersion, architecture: bytes | None
    ) -> ModelStatement:
        """Verify an envelope, whose key was prepared, about a model.

        Raises:
            IntegrityError: ENVELOPE_MISSING, ENVELOPE_MALFORMED, MODEL_STATEMENT_MALFORMED,
                MODEL_STATEMENT_REJECTED, MODEL_STATEMENT_MISMATCH; the model must not be used.
        """
        keys = {name: key for name, (_, key) in self._believed.items()}
        statement = verify_statement(_parsed(envelope), keys)
        statement.require_describes(version, architecture)
        return statement

    async def _fetch(self, name: str) -> VerificationKey:
        stub = keys_pb2_grpc.KeyManagementServiceStub(self._channel())
        described: keys_pb2.CryptoKeyVersion | None = None
        public_key = b""
        request = keys_pb2.DownloadPublicKeyRequest(name=name)
        async for part in stream(stub.DownloadPublicKey, request, deadline_s=_CALL_S):
            if part.WhichOneof("part") == "crypto_key_version":
                described = part.crypto_key_version
            elif len(public_key) + len(part.chunk) <= _MOST_KEY_BYTES:
                public_key += part.chunk
        algorithm = None if described is None else _ALGORITHMS.get(described.algorithm)
        if described is None or described.name != name or algorithm is None:
            raise IntegrityError(
                "MODEL_STATEMENT_REJECTED", f"the key service has no key {name} that signs models"
            )
        if described.state not in _VERIFYING:
            raise StateError(
                "KEY_STATE",
                f"{name}, which signed a model, does not verify any more (disabled, destroyed or "
                "compromised); do not use the model, and have it signed anew",
            )
        return VerificationKey(algorithm, public_key)


def _parsed(envelope: bytes) -> dsse.Envelope:
    if not envelope:
        raise IntegrityError(
            "ENVELOPE_MISSING",
            "a model comes without the signed statement that this side insists on; the "
            "aggregator's operator has to set model_key",
        )
    return dsse.Envelope.parse(envelope)
