"""Configuration, `init` and what `run` refuses to start on."""

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from finsecure_crypto.audit_event import Event
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError, NotFoundError
from finsecure_keyservice import main
from finsecure_keyservice.admission_keys import ApiKey
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import Founded, found
from finsecure_keyservice.local_api_keys import issue_locally
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.serving import opened
from finsecure_rpc.config import load
from finsecure_rpc.identity_store import IdentityStore
from typer.testing import CliRunner

from tests.support.keyservice import START, MovableClock

SERVICE = Path(__file__).parents[3] / "services" / "keyservice"


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    return _configuration(tmp_path)


def _configuration(folder: Path, **changes: object) -> Configuration:
    settings: dict[str, object] = {
        "domain": "finsecure.test",
        "listen": "127.0.0.1:0",
        "enrol_listen": "127.0.0.1:0",
        "state_dir": folder / "state",
        "database": str(folder / "keyservice.db"),
        **changes,
    }
    return Configuration.model_validate(settings)


def _found(configuration: Configuration) -> Founded:
    return found(configuration, "alice", "lending", None, START)


async def _start(configuration: Configuration) -> None:
    async with opened(configuration, MovableClock()):
        pass


def test_the_example_is_complete_and_says_the_defaults(tmp_path: Path) -> None:
    text = (SERVICE / "config.example.toml").read_text()
    (tmp_path / "keyservice.toml").write_text(text)
    example = load(tmp_path / "keyservice.toml", Configuration)
    assert example.state_dir == tmp_path / "keyservice"
    assert example.database == f"sqlite:///{tmp_path}/keyservice/keyservice.db"
    for name, field in Configuration.model_fields.items():
        assert name in text, f"{name} is not explained"
        if not field.is_required():
            assert getattr(example, name) == field.default, name
    for line in text.splitlines():
        assert line.startswith(("#", "[")) or not line or " = " in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("certificate_lifetime = 24", "unknown key certificate_lifetime .allowed here: .*_h"),
        ("certificate_lifetime_h = 0", "certificate_lifetime_h"),
        ("certificate_lifetime_h = nan", "certificate_lifetime_h"),
        ("certificate_lifetime_h = 'a day'", "certificate_lifetime_h"),
        ("root_lifetime_d = 0", "root_lifetime_d"),
        ("log_level = 'LOUD'", "log_level"),
        ("[limits]\nenrolment_calls_per_s = -1", "limits.enrolment_calls_per_s"),
        ("[limits]\ncalls = 1", "unknown key limits.calls"),
        ("[seal]\nshares_dir = 'x'\nthreshold = 1", "seal.threshold"),
        ("[seal]\nshares_dir = 'x'\nthreshold = 4", "threshold is larger than shares"),
        ("[seal]\nshares_dir = 'x'\nshares = 17", "seal.shares"),
        ("[seal]\nshares_dir = 's/x'", "shares_dir is in state_dir"),
        ("[seal]\nthreshold = 2", "seal.shares_dir"),
        (
            "certificate_lifetime_h = 48.5\n[seal]\nshares_dir = 'x'",
            r"with \[seal\], certificate_lifetime_h is at most 48",
        ),
        ("x = [", "not TOML"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "keyservice.toml"
    path.write_text(
        "domain = 'finsecure.test'\nlisten = '127.0.0.1:1'\nenrol_listen = '127.0.0.1:2'\n"
        f"state_dir = 's'\ndatabase = 'd'\n{change}\n"
    )
    with pytest.raises(ConfigurationError, match=message) as caught:
        load(path, Configuration)
    assert caught.value.code == "CONFIG_INVALID"
    assert str(path) in str(caught.value)
    result = CliRunner().invoke(main.app, ["run", "--config", str(path)])
    assert isinstance(result.exception, ConfigurationError)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("domain", "Finsecure.test"),
        ("domain", "finsecure.test."),
        ("domain", "finsecure..test"),
        ("domain", "*.test"),
        ("domain", "spiffe://finsecure.test"),
        ("domain", "a" * 201),
        ("listen", "127.0.0.1"),
        ("listen", "unix:/tmp/socket"),
    ],
)
def test_bad_names_and_addresses_are_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ValueError, match=key):
        _configuration(tmp_path, **{key: value})


def test_init_makes_everything_and_only_its_owner_may_read_the_secrets(
    configuration: Configuration,
) -> None:
    os.umask(0o022)
    made = _found(configuration)
    state = configuration.state_dir
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    secrets = [
        made.root_key,
        made.api_key,
        state / "api-key.pepper",
        state / "identity" / "tls.key",
        state / "identity" / "signing.key",
    ]
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert ApiKey.parse(made.api_key.read_text())
    identity = IdentityStore(state / "identity").current()
    assert str(identity.spiffe_id) == "spiffe://finsecure.test/keyservice/main"
    assert len(made.fingerprint) == 32 * 3 - 1


def test_init_overwrites_nothing(configuration: Configuration, tmp_path: Path) -> None:
    _found(configuration)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    elsewhere = configuration.model_copy(update={"state_dir": tmp_path / "elsewhere"})
    for attempt in (configuration, elsewhere):
        with pytest.raises(ConfigurationError, match="ALREADY_INITIALISED"):
            _found(attempt)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert not [path for path in after if path.suffix in (".key", ".pem") and path not in before]


def test_the_root_key_may_go_somewhere_else_at_once(
    configuration: Configuration, tmp_path: Path
) -> None:
    target = tmp_path / "stick" / "root.key"
    target.parent.mkdir()
    found(configuration, "alice", None, target, START)
    assert target.exists()
    assert not (configuration.state_dir / "root.key").exists()


def test_bad_ids_stop_init_before_it_begins(configuration: Configuration) -> None:
    for operator, federation in (("Alice", "lending"), ("alice", "../lending"), ("", None)):
        with pytest.raises(InvalidArgumentError, match="NAME_MALFORMED"):
            found(configuration, operator, federation, None, START)
    assert not configuration.state_dir.exists()


async def test_run_needs_init(configuration: Configuration) -> None:
    with pytest.raises(ConfigurationError, match="NOT_INITIALISED"):
        await _start(configuration)
    _found(configuration)
    await _start(configuration)
    empty = configuration.model_copy(update={"database": "sqlite://"})
    with pytest.raises(ConfigurationError, match="NOT_INITIALISED"):
        await _start(empty)
    with pytest.raises(ConfigurationError, match="DOMAIN_MISMATCH"):
        await _start(configuration.model_copy(update={"domain": "other.test"}))


async def test_a_database_of_another_release_is_left_alone(
    configuration: Configuration, tmp_path: Path
) -> None:
    _found(configuration)
    with sqlite3.connect(tmp_path / "keyservice.db") as database:
        changed = database.execute(
            "UPDATE keyservice_settings SET value = '99' WHERE name = 'layout'"
        )
        assert changed.rowcount == 1
    with pytest.raises(ConfigurationError, match="DATABASE_LAYOUT"):
        await _start(configuration)


def _change_books(state: Path, statement: str) -> None:
    with sqlite3.connect(state.parent / "keyservice.db") as database:
        assert database.execute(statement).rowcount == 1


def _exposed(state: Path) -> None:
    (state / "api-key.pepper").chmod(0o640)


def _other_key(state: Path) -> None:
    _change_books(state, "UPDATE authorities SET handle = x'57'")


def _short_pepper(state: Path) -> None:
    (state / "api-key.pepper").write_bytes(b"short")


def _no_certificate(state: Path) -> None:
    _change_books(state, "UPDATE authorities SET certificate = NULL")


def _missing(state: Path) -> None:
    (state / "api-key.pepper").unlink()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_exposed, "KEY_FILE_EXPOSED"),
        (_other_key, "STATE_DAMAGED"),
        (_short_pepper, "STATE_DAMAGED"),
        (_no_certificate, "STATE_DAMAGED"),
        (_missing, "NOT_INITIALISED"),
    ],
)
async def test_damaged_state_is_named(
    configuration: Configuration, damage: Callable[[Path], None], code: str
) -> None:
    _found(configuration)
    damage(configuration.state_dir)
    with pytest.raises(ConfigurationError) as caught:
        await _start(configuration)
    assert caught.value.code == code
    assert "intermediate" in str(caught.value) or str(configuration.state_dir) in str(caught.value)


async def test_a_lost_identity_folder_is_made_anew(configuration: Configuration) -> None:
    _found(configuration)
    (configuration.state_dir / "identity" / "current").unlink()
    await _start(configuration)
    assert IdentityStore(configuration.state_dir / "identity").current()


def test_an_operator_key_for_the_revoked_is_refused(
    configuration: Configuration, tmp_path: Path
) -> None:
    _found(configuration)
    target = tmp_path / "key"
    issue_locally(configuration, MemberName(None, Role.OPERATOR, "bob"), target, START)
    assert ApiKey.parse(target.read_text())
    with pytest.raises(ConfigurationError, match="FILE_EXISTS"):
        issue_locally(configuration, MemberName(None, Role.OPERATOR, "alice"), target, START)
    with pytest.raises(InvalidArgumentError, match="NAME_MALFORMED"):
        issue_locally(
            configuration, MemberName(None, Role.OPERATOR, "a/b"), tmp_path / "other", START
        )


def test_a_first_trustee_is_made_on_the_machine_of_the_key_service(
    configuration: Configuration, tmp_path: Path
) -> None:
    found(configuration, "alice", "lending", None, START)
    north = MemberName("lending", Role.TRUSTEE, "north")
    issue_locally(configuration, north, tmp_path / "first", START)
    issue_locally(configuration, north, tmp_path / "second", START)  # the first one was lost
    first, second = ((tmp_path / name).read_text() for name in ("first", "second"))
    assert ApiKey.parse(first).id != ApiKey.parse(second).id
    with sqlite3.connect(tmp_path / "keyservice.db") as database:
        leaves = [
            Event.parse(leaf) for (leaf,) in database.execute("SELECT leaf FROM audit_events")
        ]
    made = [(each.action, each.caller) for each in leaves if each.subject == str(north)]
    local = "local:trustee-key"
    assert made == [
        ("member.create", local),
        ("api-key.issue", local),
        ("api-key.issue", local),
    ]
    elsewhere = MemberName("elsewhere", Role.TRUSTEE, "north")
    with pytest.raises(NotFoundError, match="FEDERATION_NOT_FOUND"):
        issue_locally(configuration, elsewhere, tmp_path / "third", START)
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["run", "--config", "/nowhere.toml"], 2, "CONFIG_MISSING"),
        (["init", "--config", "{config}", "--operator", "A B"], 2, "NAME_MALFORMED"),
        (["run", "--config", "{config}"], 2, "NOT_INITIALISED"),
        (["init", "--config", "{config}", "--root-key", "/nowhere/root.key"], 2, "FILE_ERROR"),
    ],
)
def test_people_get_one_line_and_an_exit_code(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    words: str,
) -> None:
    config = tmp_path / "keyservice.toml"
    config.write_text((SERVICE / "config.example.toml").read_text())
    filled = [argument.format(config=config) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["finsecure-keyservice", *filled])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == status
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert len(error.splitlines()) == 1
