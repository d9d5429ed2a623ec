"""Tables of the key service (SQLAlchemy Core) and the version of their layout."""

from datetime import UTC, datetime, timedelta

from finsecure_rpc.idempotency import request_table
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
)

from finsecure_keyservice.audit.schema import audit_tables

VERSION = "4"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(TypeDecorator[datetime]):
    """A UTC instant, stored as whole microseconds since 1970 on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To the database."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


METADATA = MetaData()

# What this database belongs to: layout version and domain.
SETTINGS = Table(
    "keyservice_settings",
    METADATA,
    Column("name", String(40), primary_key=True),
    Column("value", String(255), nullable=False),
)

FEDERATIONS = Table(
    "federations",
    METADATA,
    Column("name", String(128), primary_key=True),
    Column("display_name", String(200), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("minimum_cohort", Integer, nullable=False),
    Column("minimum_sum_cohort", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

MEMBERS = Table(
    "members",
    METADATA,
    Column("name", String(160), primary_key=True),
    Column("parent", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("display_name", String(200), nullable=False),
    Column("state", String(16), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("revoke_time", Instant),
    Column("revoke_reason", String(500), nullable=False),
    Index("members_by_parent", "parent", "name"),
)

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("member", String(160), ForeignKey("members.name"), nullable=False, index=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
    Column("void", Boolean, nullable=False),
    Column("spend_time", Instant),
    Column("requests_digest", LargeBinary(32)),
    Column("tls_serial", String(40), ForeignKey("certificates.serial")),
    Column("signing_serial", String(40), ForeignKey("certificates.serial")),
    Column("repeated", Boolean, nullable=False),
)

JOIN_TOKENS = Table(
    "join_tokens",
    METADATA,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("parent", String(128), ForeignKey("federations.name"), nullable=False),
    Column("role", String(16), nullable=False),
    Column("id_prefix", String(32), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("maximum_uses", Integer, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
    Column("revoke_time", Instant),
    Index("join_tokens_by_parent", "parent", "sequence"),
    sqlite_autoincrement=True,
)

# One row for each use: what is counted cannot differ from who came.
JOINS = Table(
    "joins",
    METADATA,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("member", String(160), ForeignKey("members.name"), nullable=False, unique=True),
    Column("token", String(16), ForeignKey("join_tokens.id"), nullable=False),
    Column("join_time", Instant, nullable=False),
    Column("requests_digest", LargeBinary(32), nullable=False),
    Column("tls_serial", String(40), ForeignKey("certificates.serial"), nullable=False),
    Column("signing_serial", String(40), ForeignKey("certificates.serial"), nullable=False),
    Column("repeated", Boolean, nullable=False),
    Index("joins_by_token", "token", "sequence"),
    sqlite_autoincrement=True,
)

# `member` is no foreign key: the key service's own certificates are here too.
CERTIFICATES = Table(
    "certificates",
    METADATA,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("serial", String(40), nullable=False, unique=True),
    Column("member", String(160), nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("key_digest", LargeBinary(32), nullable=False, index=True),
    Column("issuer", String(40), nullable=False),
    Column("not_before", Instant, nullable=False),
    Column("not_after", Instant, nullable=False),
    Column("revoke_time", Instant),
    Column("revoke_reason", String(500), nullable=False),
    Index("certificates_by_member", "member", "sequence"),
    Index("certificates_revoked", "revoke_time", "not_after"),
    Index("certificates_by_issuer", "issuer", "not_after"),
    sqlite_autoincrement=True,
)

REVOCATION_LISTS = Table(
    "revocation_lists",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("der", LargeBinary, nullable=False),
    Column("next_update", Instant, nullable=False),
)

# `handle` is the private key wrapped, or where it is in a token.
AUTHORITIES = Table(
    "authorities",
    METADATA,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("state", String(16), nullable=False, index=True),
    Column("handle", LargeBinary, nullable=False),
    Column("csr", LargeBinary, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("certificate", LargeBinary),
    Column("install_time", Instant),
    Column("not_after", Instant),
    sqlite_autoincrement=True,
)

PROPOSALS = Table(
    "proposals",
    METADATA,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("action", String(64), nullable=False),
    Column("summary", String(1000), nullable=False),
    Column("request_digest", LargeBinary(32), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("proposer", String(512), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
    Column("decider", String(512), nullable=False),
    Column("decide_time", Instant),
    Column("reason", String(500), nullable=False),
    Column("executor", String(512), nullable=False),
    Column("execute_time", Instant),
    Index("proposals_by_state", "state", "expire_time"),
    sqlite_autoincrement=True,
)

KEY_RINGS = Table(
    "key_rings",
    METADATA,
    Column("name", String(160), primary_key=True),
    Column("parent", String(128), ForeignKey("federations.name"), nullable=False),
    Column("create_time", Instant, nullable=False),
    Index("key_rings_by_parent", "parent", "name"),
)

CRYPTO_KEYS = Table(
    "crypto_keys",
    METADATA,
    Column("name", String(220), primary_key=True),
    Column("parent", String(160), ForeignKey("key_rings.name"), nullable=False),
    Column("purpose", String(24), nullable=False),
    Column("algorithm", String(32), nullable=False),
    Column("rotation_period_s", BigInteger),
    Column("next_rotation_time", Instant, index=True),
    Column("destroy_delay_s", BigInteger, nullable=False),
    Column("primary", Integer),
    Column("create_time", Instant, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("crypto_keys_by_parent", "parent", "name"),
)

# A handle is wrapped or names a key in a token: nothing here opens anything alone.
CRYPTO_KEY_VERSIONS = Table(
    "crypto_key_versions",
    METADATA,
    Column("key", String(220), ForeignKey("crypto_keys.name"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(24), nullable=False, index=True),
    Column("create_time", Instant, nullable=False),
    Column("activate_time", Instant, nullable=False),
    Column("generate_time", Instant),
    Column("destroy_time", Instant),
    Column("compromise_time", Instant),
    Column("in_token", Boolean, nullable=False),
    Column("imported", Boolean, nullable=False),
    Column("public_key", LargeBinary),
    Column("handle", LargeBinary),
    Column("revision", BigInteger, nullable=False),
)

# One statement for each model, whatever signs it.
SIGNED_MODELS = Table(
    "signed_models",
    METADATA,
    Column("name", String(200), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("create_time", Instant, nullable=False),
)

IMPORT_JOBS = Table(
    "import_jobs",
    METADATA,
    Column("name", String(220), primary_key=True),
    Column("parent", String(160), ForeignKey("key_rings.name"), nullable=False),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("handle", LargeBinary, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
)

ENCRYPTION_KEYS = Table(
    "encryption_keys",
    METADATA,
    Column("name", String(160), primary_key=True),
    Column("parent", String(128), ForeignKey("federations.name"), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("generation", String(16), nullable=False),
    Column("holders", Integer, nullable=False),
    Column("threshold", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("endorse_time", Instant, nullable=False),
    Index("encryption_keys_by_parent", "parent", "name"),
)

ENDORSEMENTS = Table(
    "encryption_key_endorsements",
    METADATA,
    Column("key_name", String(160), ForeignKey("encryption_keys.name"), primary_key=True),
    Column("holder", Integer, primary_key=True),
    Column("trustee", String(40), nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
)

REQUESTS = request_table(METADATA)

AUDIT = audit_tables(METADATA)
