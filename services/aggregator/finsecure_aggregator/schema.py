"""Tables of the aggregator's database, and the layout that they are of."""

from finsecure_rpc.database_layout import require_layout
from finsecure_rpc.idempotency import request_table
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    insert,
    inspect,
    select,
)

VERSION = "1"

metadata = MetaData()

settings = Table(
    "aggregator_settings",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", String(255), nullable=False),
)

requests = request_table(metadata)

# Times are nanoseconds since the Unix epoch throughout: deadlines survive a restart exactly.

tasks = Table(
    "tasks",
    metadata,
    Column("name", String(160), primary_key=True),
    Column("spec", LargeBinary, nullable=False),
    Column("state", String(32), nullable=False),
    Column("detail", String(1000), nullable=False),
    Column("create_ns", BigInteger, nullable=False),
    Column("completed_rounds", Integer, nullable=False),
    Column("current_number", Integer),
    Column("current_attempt", Integer),
    Column("latest_version", Integer),
    Column("next_round_ns", BigInteger),
    Column("best_loss", Float),
    Column("stale_rounds", Integer, nullable=False),
)

rounds = Table(
    "rounds",
    metadata,
    Column("task", String(160), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("state", String(32), nullable=False),
    Column("nonce", LargeBinary(32), nullable=False),
    Column("base_version", Integer, nullable=False),
    Column("invited", JSON, nullable=False),
    Column("minimum_cohort", Integer, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("end_ns", BigInteger),
    Column("result_version", Integer),
    Column("abort_reason", String(64), nullable=False),
    Column("abort_detail", String(1000), nullable=False),
    Column("blamed", JSON, nullable=False),
    Column("trustees", JSON, nullable=False),
    Column("metrics", JSON),
    ForeignKeyConstraint(["task"], ["tasks.name"]),
)

_ROUND = ("task", "number", "attempt")
_ROUND_COLUMNS = ["rounds.task", "rounds.number", "rounds.attempt"]

phases = Table(
    "phases",
    metadata,
    Column("task", String(160), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("phase", String(32), primary_key=True),
    Column("open_ns", BigInteger, nullable=False),
    Column("deadline_ns", BigInteger, nullable=False),
    Column("close_ns", BigInteger),
    ForeignKeyConstraint(_ROUND, _ROUND_COLUMNS),
)

# The log that a round is folded from. `sequence` is the order of acceptance.
messages = Table(
    "messages",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("task", String(160), nullable=False),
    Column("number", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("phase", String(32), nullable=False),
    Column("client", String(40), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    ForeignKeyConstraint(_ROUND, _ROUND_COLUMNS),
    UniqueConstraint("task", "number", "attempt", "phase", "client"),
)

declines = Table(
    "declines",
    metadata,
    Column("task", String(160), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("client", String(40), primary_key=True),
    Column("reason", String(64), nullable=False),
    ForeignKeyConstraint(_ROUND, _ROUND_COLUMNS),
)

models = Table(
    "models",
    metadata,
    Column("task", String(160), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("parent_sha256", LargeBinary(32), nullable=False),
    Column("round", String(200), nullable=False),
    Column("create_ns", BigInteger, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    ForeignKeyConstraint(["task"], ["tasks.name"]),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("task", String(160), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("reason", String(64), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    ForeignKeyConstraint(["task", "version"], ["models.task", "models.version"]),
)

sums = Table(
    "sums",
    metadata,
    Column("name", String(160), primary_key=True),
    Column("spec", LargeBinary, nullable=False),
    Column("creator", String(512), nullable=False),
    Column("nonce", LargeBinary(32), nullable=False),
    Column("key_digest", LargeBinary(32), nullable=False),
    Column("ciphertext_bytes", Integer, nullable=False),
    Column("input_bytes", Integer, nullable=False),
    Column("create_ns", BigInteger, nullable=False),
    Column("collecting_ns", BigInteger, nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("detail", String(1000), nullable=False),
    Column("opening_ns", BigInteger),
    Column("end_ns", BigInteger),
    Column("excluded", JSON, nullable=False),
    Column("trustees", JSON, nullable=False),
    Column("totals", JSON),
)

# Who has contributed what, signed; stays when the ciphertexts are deleted.
contributions = Table(
    "contributions",
    metadata,
    Column("sum", String(160), primary_key=True),
    Column("client", String(40), primary_key=True),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    ForeignKeyConstraint(["sum"], ["sums.name"]),
    UniqueConstraint("sum", "sha256"),
)


def prepare(connection: Connection) -> None:
    """Make the tables of an empty database, or make sure that they are of this layout.

    Raises:
        ConfigurationError: DATABASE_LAYOUT; nothing was changed.
    """
    present = inspect(connection).get_table_names()
    if settings.name in present:
        layout = select(settings.c.value).where(settings.c.name == "layout")
        require_layout(connection.execute(layout).scalar_one_or_none(), VERSION)
    elif tasks.name in present:  # of a release that noted nothing
        require_layout(None, VERSION)
    else:
        metadata.create_all(connection)
        connection.execute(insert(settings).values(name="layout", value=VERSION))
