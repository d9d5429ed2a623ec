"""Records of managed keys to messages, and the wishes of messages to arguments."""

import hashlib
from datetime import UTC, datetime, timedelta

from finsecure.keyservice.v1 import keys_pb2 as pb
from finsecure_crypto.errors import InvalidArgumentError
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from finsecure_keyservice.convert import timestamp
from finsecure_keyservice.etags import etag
from finsecure_keyservice.keys.names import VersionName
from finsecure_keyservice.keys.records import (
    CryptoKey,
    ImportJob,
    KeyAlgorithm,
    KeyPurpose,
    KeyRing,
    KeyVersion,
)
from finsecure_keyservice.keys.registry import KeyWish
from finsecure_keyservice.keys.states import Step, VersionState

_PURPOSES = {
    KeyPurpose.MODEL_SIGNING: pb.KEY_PURPOSE_MODEL_SIGNING,
    KeyPurpose.DATA_ENCRYPTION: pb.KEY_PURPOSE_DATA_ENCRYPTION,
}
_ALGORITHMS = {
    KeyAlgorithm.ED25519: pb.KEY_ALGORITHM_ED25519,
    KeyAlgorithm.RSA_4096_PSS_SHA512: pb.KEY_ALGORITHM_RSA_4096_PSS_SHA512,
    KeyAlgorithm.ML_DSA_65: pb.KEY_ALGORITHM_ML_DSA_65,
    KeyAlgorithm.AES_256_GCM: pb.KEY_ALGORITHM_AES_256_GCM,
}
_STATES = {
    state: pb.CryptoKeyVersionState.Value(f"CRYPTO_KEY_VERSION_STATE_{state.name}")
    for state in VersionState
}
_STEPS = {
    pb.CRYPTO_KEY_VERSION_CHANGE_DISABLE: Step.DISABLE,
    pb.CRYPTO_KEY_VERSION_CHANGE_ENABLE: Step.ENABLE,
    pb.CRYPTO_KEY_VERSION_CHANGE_DEACTIVATE: Step.DEACTIVATE,
    pb.CRYPTO_KEY_VERSION_CHANGE_RESTORE: Step.RESTORE,
    pb.CRYPTO_KEY_VERSION_CHANGE_COMPROMISE: Step.COMPROMISE,
}
_PURPOSE_OF = {value: purpose for purpose, value in _PURPOSES.items()}
_ALGORITHM_OF = {value: algorithm for algorithm, value in _ALGORITHMS.items()}
_MOST_SECONDS = 10**10


def key_ring(record: KeyRing) -> pb.KeyRing:
    """A ring."""
    return pb.KeyRing(name=record.name, create_time=timestamp(record.create_time))


def crypto_key(record: CryptoKey) -> pb.CryptoKey:
    """A key."""
    message = pb.CryptoKey(
        name=record.name,
        purpose=_PURPOSES[record.purpose],
        algorithm=_ALGORITHMS[record.algorithm],
        destroy_delay=_duration(record.destroy_delay),
        create_time=timestamp(record.create_time),
        etag=etag(record.revision),
    )
    if record.primary is not None:
        message.primary = str(VersionName(record.name, record.primary))
    if record.rotation_period is not None:
        message.rotation_period.CopyFrom(_duration(record.rotation_period))
    if record.next_rotation_time is not None:
        message.next_rotation_time.CopyFrom(timestamp(record.next_rotation_time))
    return message


def crypto_key_version(record: KeyVersion, algorithm: KeyAlgorithm) -> pb.CryptoKeyVersion:
    """A version."""
    message = pb.CryptoKeyVersion(
        name=record.name,
        state=_STATES[record.state],
        algorithm=_ALGORITHMS[algorithm],
        imported=record.imported,
        create_time=timestamp(record.create_time),
        activate_time=timestamp(record.activate_time),
        etag=etag(record.revision),
    )
    if record.public_key is not None:
        message.public_key_sha256 = hashlib.sha256(record.public_key).digest()
    if record.generate_time is not None:
        message.generate_time.CopyFrom(timestamp(record.generate_time))
        message.protection = (
            pb.KEY_PROTECTION_TOKEN if record.in_token else pb.KEY_PROTECTION_WRAPPED
        )
    if record.destroy_time is not None:
        message.destroy_time.CopyFrom(timestamp(record.destroy_time))
    if record.compromise_time is not None:
        message.compromise_time.CopyFrom(timestamp(record.compromise_time))
    return message


def import_job(record: ImportJob) -> pb.ImportJob:
    """An import job."""
    return pb.ImportJob(
        name=record.name,
        public_key=record.public_key,
        expire_time=timestamp(record.expire_time),
    )


def key_wish(message: pb.CryptoKey) -> KeyWish:
    """What a new key should be; the proto has checked the enums."""
    return KeyWish(
        name=message.name,
        purpose=_PURPOSE_OF[message.purpose],
        algorithm=_ALGORITHM_OF[message.algorithm],
        rotation_period=rotation_period(message),
        destroy_delay=(
            _timedelta(message.destroy_delay) if message.HasField("destroy_delay") else None
        ),
    )


def rotation_period(message: pb.CryptoKey) -> timedelta | None:
    """The rotation period of a key; None where it has none."""
    return _timedelta(message.rotation_period) if message.HasField("rotation_period") else None


def step(change: pb.CryptoKeyVersionChange.ValueType) -> Step:
    """What a person wants done; the proto has checked the enum."""
    return _STEPS[change]


def activate_time(request: pb.CreateCryptoKeyVersionRequest) -> datetime | None:
    """From when on a version may protect; None means at once.

    Raises:
        InvalidArgumentError: ACTIVATE_TIME.
    """
    if not request.HasField("activate_time"):
        return None
    return _datetime(request.activate_time)


def _datetime(message: Timestamp) -> datetime:
    if not 0 <= message.seconds <= _MOST_SECONDS or not 0 <= message.nanos < 10**9:
        raise InvalidArgumentError("ACTIVATE_TIME", "activate_time is no time of our days")
    return message.ToDatetime(tzinfo=UTC)


def _duration(value: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(value)
    return message


def _timedelta(message: Duration) -> timedelta:
    # Whole seconds; what is out of all bounds stays out of them.
    return timedelta(seconds=max(-1, min(message.seconds, _MOST_SECONDS)))
