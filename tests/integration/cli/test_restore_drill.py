"""The drills of the operator's guide for copies: taken, practised, put back when too old."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import OPERATIONS, CommandRefusedError, Shell, last_list
from tests.support.federation import free_port
from tests.support.postgresql import needs_postgresql, new_database


def _copy_configuration(source: Path, target: Path) -> None:
    """What the guide asks for in words: other ports, and no second copy of the log."""
    names = ("keyservice.toml", "operator.toml")
    texts = "\x00".join((source / name).read_text() for name in names)
    for port in set(re.findall(r"127\.0\.0\.1:(\d+)", texts)):
        texts = texts.replace(port, str(free_port()))
    texts = re.sub(r"(?m)^audit_file = .*$", "", texts)
    for name, text in zip(names, texts.split("\x00"), strict=True):
        (target / name).write_text(text)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """An empty folder, and the words that the guide asks to replace."""
    (tmp_path / "drill").mkdir()
    places = {"BACKUP": "backup", "KEYS": "keys", "DRILL": "drill"}
    made = Shell(tmp_path, {name: str(tmp_path / place) for name, place in places.items()})
    yield made
    made.close()


def _found(shell: Shell, database: str) -> Path:
    """A key service that runs, and its operator."""
    config = shell.folder / "keyservice.toml"
    init = ("init", str(shell.folder), "--federation", "lending", "--clients", "bank-a,bank-b")
    ports = (f"--{which}-port={free_port()}" for which in ("keyservice", "enrol", "aggregator"))
    shell.call("finsecure", *init, *ports)
    text = re.sub(r"(?m)^database = .*$", f'database = "{database}"', config.read_text())
    config.write_text(text)
    founder = ("--operator", "admin", "--federation", "lending")
    printed = shell.call("finsecure-keyservice", "init", "--config", str(config), *founder)
    shell.values["KEY"] = re.findall(r"audit log's key +(\S+)", printed)[0]
    shutil.copy(shell.folder / "keyservice" / "root.pem", shell.folder / "root.pem")
    shell.start("finsecure-keyservice", config)
    key = shell.folder / "keyservice" / "operator-admin.api-key"
    shell.call("finsecure", "operator", "enrol", "--api-key-file", str(key))
    for bank in ("bank-a", "bank-b"):
        _enrol(shell, bank)
    shell.call("finsecure", "audit", "verify", "--key", shell.values["KEY"])
    return config


def _enrol(shell: Shell, bank: str) -> None:
    shell.call("finsecure", "member", "add", bank, "--key-file", f"{bank}.key")
    config = f"clients/{bank}.toml"
    shell.call("finsecure-client", "enrol", "--config", config, "--api-key-file", f"{bank}.key")


def _events(shell: Shell) -> str:
    return shell.call("finsecure", "audit", "tail", "-n", "500", "--json")


def _go_back_to_an_old_copy(shell: Shell, config: Path, restore: str) -> None:
    """Lose a revocation and the second copy's agreement, then do what the guide says."""
    shell.call("finsecure", "member", "revoke", "bank-b", "--reason", "left")
    shell.call("finsecure", "audit", "verify")
    shell.stop(config)
    (shell.folder / "keyservice").rename(shell.folder / "keyservice.before")
    with pytest.raises(CommandRefusedError) as caught:
        shell.run(OPERATIONS, restore)
    assert caught.value.code == "AUDIT_LOG_ROLLED_BACK"
    shell.values["LAST"] = re.findall(r"the last one is (\d+)", shell.output)[-1]
    printed = shell.run(OPERATIONS, "rolled-back")
    assert "are whole and unchanged" in printed
    missing = [line for line in printed.splitlines() if "member.revoke" in line]
    assert len(missing) == 1
    assert "bank-b" in missing[0]
    assert "member.enrol" not in printed.replace("member.enrol-again", "")
    shell.values |= {"MEMBER": "bank-b", "NUMBER": lambda: last_list(shell)}
    numbered = shell.run(OPERATIONS, "revoke-again")
    assert int(re.findall(r"revocation list (\d+)", numbered)[0]) > time.time() - 600
    assert 0 < int(last_list(shell)) < time.time() - 600
    shell.call("finsecure", "audit", "verify")
    assert "member.revoke" in _events(shell)


@pytest.mark.slow
def test_a_copy_is_practised_and_put_back_when_it_is_too_old(shell: Shell) -> None:
    config = _found(shell, "keyservice/keyservice.db")
    shell.run(OPERATIONS, "backup")
    _copy_configuration(shell.folder, shell.folder / "drill")
    shutil.copy(shell.folder / "root.pem", shell.folder / "drill" / "root.pem")
    assert "are whole and unchanged" in shell.run(OPERATIONS, "practise")
    shell.stop(shell.folder / "drill" / "keyservice.toml")
    _go_back_to_an_old_copy(shell, config, "restore")


@needs_postgresql
@pytest.mark.slow
def test_a_dump_of_postgresql_is_put_back_when_it_is_too_old(shell: Shell) -> None:
    database = new_database()
    config = _found(shell, database)
    shell.values["DATABASE"] = database
    shell.run(OPERATIONS, "backup-postgresql")
    shell.values["DATABASE"] = new_database()
    config.write_text(config.read_text().replace(database, str(shell.values["DATABASE"])))
    _go_back_to_an_old_copy(shell, config, "restore-postgresql")
