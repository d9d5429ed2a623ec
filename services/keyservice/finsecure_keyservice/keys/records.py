"""What is remembered of managed keys, as plain immutable records."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from finsecure_crypto.signatures import SignatureAlgorithm

from finsecure_keyservice.keys.names import VersionName
from finsecure_keyservice.keys.states import VersionState


class KeyPurpose(Enum):
    """What a key is for; it never changes."""

    MODEL_SIGNING = "model-signing"
    DATA_ENCRYPTION = "data-encryption"


class KeyAlgorithm(Enum):
    """What the versions of a key are."""

    ED25519 = "ed25519"
    RSA_4096_PSS_SHA512 = "rsa-4096-pss-sha512"
    ML_DSA_65 = "ml-dsa-65"
    AES_256_GCM = "aes-256-gcm"

    @property
    def signature(self) -> SignatureAlgorithm:
        """The signature algorithm; for keys that sign."""
        return SignatureAlgorithm(self.value)


ALGORITHMS = {
    KeyPurpose.MODEL_SIGNING: frozenset(KeyAlgorithm) - {KeyAlgorithm.AES_256_GCM},
    KeyPurpose.DATA_ENCRYPTION: frozenset({KeyAlgorithm.AES_256_GCM}),
}


@dataclass(frozen=True)
class KeyRing:
    """A group of keys."""

    name: str
    parent: str
    create_time: datetime


@dataclass(frozen=True)
class CryptoKey:
    """A key: a purpose and a line of versions.

    Attributes:
        name: resource name.
        parent: its ring.
        purpose: what it is for.
        algorithm: what its versions are.
        rotation_period: after how long it gets a new version by itself; None means never.
        next_rotation_time: when it gets the next one.
        destroy_delay: how long a version that is to be destroyed can be restored.
        primary: number of the version that protects; None until the first one is enabled.
        create_time: when it was created.
        revision: counts its changes; the etag.
    """

    name: str
    parent: str
    purpose: KeyPurpose
    algorithm: KeyAlgorithm
    rotation_period: timedelta | None
    next_rotation_time: datetime | None
    destroy_delay: timedelta
    primary: int | None
    create_time: datetime
    revision: int = 1


@dataclass(frozen=True)
class KeyVersion:
    """One version of a key.

    Attributes:
        key: name of its key.
        number: from 1.
        state: where it stands.
        create_time: when it was asked for.
        activate_time: from when on it may protect.
        generate_time: when its key was made or imported.
        destroy_time: when its key is, or was, destroyed.
        compromise_time: when it was said to be in wrong hands; stays, whatever comes after.
        in_token: whether its private key lies in a token.
        imported: whether somebody else made it.
        public_key: SubjectPublicKeyInfo, DER; None before it is made and for symmetric keys.
        handle: what the vault opens it by; None before it is made and once it is destroyed, in a
            token too.
        revision: counts its changes; the etag.
    """

    key: str
    number: int
    state: VersionState
    create_time: datetime
    activate_time: datetime
    generate_time: datetime | None = None
    destroy_time: datetime | None = None
    compromise_time: datetime | None = None
    in_token: bool = False
    imported: bool = False
    public_key: bytes | None = None
    handle: bytes | None = field(default=None, repr=False)
    revision: int = 1

    @property
    def name(self) -> str:
        """Resource name."""
        return str(VersionName(self.key, self.number))


@dataclass(frozen=True)
class ImportJob:
    """A key under which keys that are imported travel.

    Attributes:
        name: resource name.
        parent: its ring.
        public_key: X25519, 32 bytes.
        handle: what the vault opens its private key by.
        create_time: when it was made.
        expire_time: until when it takes keys.
    """

    name: str
    parent: str
    public_key: bytes
    handle: bytes = field(repr=False)
    create_time: datetime
    expire_time: datetime
