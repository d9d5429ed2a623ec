"""Tables of a trustee (SQLAlchemy Core) and the version of their layout."""

from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

from finsecure_keyservice.audit.schema import audit_tables
from finsecure_keyservice.schema import Instant

VERSION = "3"

METADATA = MetaData()

# What this database belongs to: layout version, federation and trustee.
SETTINGS = Table(
    "trustee_settings",
    METADATA,
    Column("name", String(40), primary_key=True),
    Column("value", String(255), nullable=False),
)

# The X25519 key that ceremonies seal to; there is one.
SEALING_KEYS = Table(
    "sealing_keys",
    METADATA,
    Column("public", LargeBinary(32), primary_key=True),
    Column("wrapped_seed", LargeBinary, nullable=False),
)

KEYS = Table(
    "shares",
    METADATA,
    Column("name", String(160), primary_key=True),
    Column("mode", String(16), nullable=False),
    Column("generation", String(16), nullable=False),
    Column("holders", Integer, nullable=False),
    Column("threshold", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("holder", Integer, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("wrapped_share", LargeBinary, nullable=False),  # empty: erased
    Column("origin", LargeBinary(32), nullable=False),
    Column("destroyed_time", Instant),
    Column("create_time", Instant, nullable=False),
)

# A row is the decision to open, and it is there before anything of the partial leaves. That a
# subject stands here once is what makes its second opening impossible.
OPENINGS = Table(
    "openings",
    METADATA,
    Column("request_digest", LargeBinary(32), primary_key=True),
    Column("subject", String(200), nullable=False, unique=True),
    Column("key_name", String(160), ForeignKey("shares.name"), nullable=False, index=True),
    Column("partial", LargeBinary, nullable=False),  # empty: erased with the share
    Column("sha256", LargeBinary(32), nullable=False),
    Column("create_time", Instant, nullable=False),
)

# Every contribution that has gone into an opened total.
CONTRIBUTIONS = Table(
    "contributions",
    METADATA,
    Column("sha256", LargeBinary(32), primary_key=True),
    Column(
        "request_digest", LargeBinary(32), ForeignKey("openings.request_digest"), nullable=False
    ),
    Column("client", String(40), nullable=False),
)

# The log of all decisions, for and against.
AUDIT = audit_tables(METADATA)

# What the key of the log's sealed details is derived from; there is one.
LOG_SECRETS = Table(
    "log_secrets",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("wrapped_secret", LargeBinary, nullable=False),
)
