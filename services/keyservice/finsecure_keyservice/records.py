"""What the key service remembers, as plain immutable records."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from finsecure_crypto.certificates import Purpose, Role
from finsecure_crypto.minimum_cohorts import MinimumCohorts


class MemberState(Enum):
    """Where a member stands."""

    INVITED = "invited"  # registered, has not enrolled yet
    ACTIVE = "active"  # enrolled
    SUSPENDED = "suspended"  # out until it is reactivated
    REVOKED = "revoked"  # out for good


@dataclass(frozen=True)
class FederationRecord:
    """A federation; its trust domain follows from its name."""

    name: str
    display_name: str
    create_time: datetime
    minima: MinimumCohorts


@dataclass(frozen=True)
class MemberRecord:
    """An identity that may enrol; role and SPIFFE ID follow from its name."""

    name: str
    parent: str
    role: Role
    display_name: str
    state: MemberState
    create_time: datetime
    revoke_time: datetime | None = None
    revoke_reason: str = ""


@dataclass(frozen=True)
class Spending:
    """What an API key was spent on, so that a lost reply can be given again."""

    time: datetime
    requests_digest: bytes
    tls_serial: str
    signing_serial: str


@dataclass(frozen=True)
class ApiKeyRecord:
    """An API key as it is stored: no secret, only its HMAC."""

    id: str
    member: str
    digest: bytes
    create_time: datetime
    expire_time: datetime
    void: bool = False
    spending: Spending | None = None


@dataclass(frozen=True)
class CertificateRecord:
    """One issued certificate; `sequence` counts issues and orders them."""

    serial: str  # lower-case hexadecimal
    member: str
    purpose: Purpose
    der: bytes
    key_digest: bytes  # SHA-256 of the subject public key info
    issuer: str  # id of the authority
    not_before: datetime
    not_after: datetime
    revoke_time: datetime | None = None
    revoke_reason: str = ""
    sequence: int = 0


@dataclass(frozen=True)
class RevocationListRecord:
    """The newest certificate revocation list."""

    number: int
    der: bytes
    next_update: datetime
