"""Every command explains itself, and what goes wrong is one line and an exit status."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from finsecure_cli.main import app
from finsecure_cli.processes import command_path
from finsecure_crypto import errors
from finsecure_rpc.console import ExitCode, exit_code, run
from typer.testing import CliRunner

RUNNER = CliRunner()
PASSED_THROUGH = {"enrol", "run", "evaluate", "egress"}


def walk(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from walk(command, (*path, name))


COMMANDS = dict(walk(typer.main.get_command(app)))


def becomes_client(path: tuple[str, ...]) -> bool:
    """Whether a command turns into `finsecure-client`, and would take the tests with it."""
    return path[0] == "client" or path == ("sum", "contribute")


def finsecure(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command_path("finsecure"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def test_all_promised_commands_exist() -> None:
    promised = {
        "init", "up", "demo",
        "federation create", "federation list",
        "member add", "member list", "member revoke", "member key",
        "operator enrol",
        "client enrol", "client run", "client egress",
        "task create", "task list", "task show", "task watch", "task cancel",
        "round show", "round list",
        "model list", "model download", "model verify",
        "sum create", "sum list", "sum show", "sum contribute", "sum open", "sum cancel",
    }  # fmt: skip
    assert promised <= {" ".join(path) for path in COMMANDS}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_is_explained(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help, path
    for parameter in command.params:
        if parameter.name != "help":
            help_ = getattr(parameter, "help", None)
            assert help_, f"{' '.join(path)} {parameter.name}"
    if not hasattr(command, "commands") and path[0] != "client":
        assert "finsecure" in (command.epilog or ""), f"{path} has no example"


@pytest.mark.parametrize("path", [p for p in COMMANDS if not becomes_client(p)], ids=" ".join)
def test_help_is_printed(path: tuple[str, ...]) -> None:
    result = RUNNER.invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_help_of_client_commands_is_the_clients_own() -> None:
    for command in sorted(PASSED_THROUGH):
        shown = finsecure("client", command, "--help")
        assert shown.returncode == 0
        assert f"finsecure-client {command}" in shown.stdout
    assert "finsecure-client contribute" in finsecure("sum", "contribute", "--help").stdout


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ConfigurationError("A_CODE", "text"), ExitCode.USAGE),
        (errors.InvalidArgumentError("A_CODE", "text"), ExitCode.USAGE),
        (errors.AuthenticationError("A_CODE", "text"), ExitCode.REFUSED),
        (errors.PermissionDeniedError("A_CODE", "text"), ExitCode.REFUSED),
        (errors.NotFoundError("A_CODE", "text"), ExitCode.NOT_FOUND),
        (errors.UnavailableError("A_CODE", "text"), ExitCode.UNAVAILABLE),
        (errors.ConflictError("A_CODE", "text"), ExitCode.FAILED),
        (errors.StateError("A_CODE", "text"), ExitCode.FAILED),
        (errors.IntegrityError("A_CODE", "text"), ExitCode.FAILED),
    ],
)
def test_exit_status_tells_what_kind_of_error(
    error: errors.FinSecureError, expected: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(error) is expected

    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        run(command)
    assert left.value.code == expected
    assert capsys.readouterr().err == "error: text [A_CODE]\n"


def test_error_of_many_lines_is_printed_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise errors.StateError("A_CODE", "first\nsecond")

    with pytest.raises(SystemExit):
        run(command)
    assert capsys.readouterr().err == "error: first second [A_CODE]\n"


def test_interrupt_is_no_traceback() -> None:
    def command() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        run(command)
    assert left.value.code == ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["task", "list", "--config", "absent.toml"], 2, "CONFIG_MISSING"),
        (["task", "create", "absent.toml"], 2, "CONFIG_MISSING"),
        (["round", "show", "some-task", "eight"], 2, "ROUND_MALFORMED"),
        (["model", "download", "some-task", "--version", "newest"], 2, "VERSION_MALFORMED"),
        (["init", "x", "--federation", "Lending", "--clients", "bank-a"], 2, "ID_MALFORMED"),
        (["up", "absent"], 2, "CONFIG_MISSING"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], status: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = finsecure(*arguments)
    assert result.returncode == status
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert f"[{code}]" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_configuration_can_come_from_the_environment(tmp_path: Path) -> None:
    result = finsecure("task", "list", FINSECURE_CONFIG=str(tmp_path / "mine.toml"))
    assert "mine.toml" in result.stderr


def test_init_writes_each_file_once_and_never_again(tmp_path: Path) -> None:
    arguments = ["init", str(tmp_path / "f"), "--federation", "lending", "--clients"]
    first = finsecure(*arguments, "bank-a, bank-b", "--json")
    assert first.returncode == 0
    written = [Path(path) for path in json.loads(first.stdout)]
    assert {path.relative_to(tmp_path / "f").as_posix() for path in written} == {
        "keyservice.toml", "aggregator.toml", "operator.toml", "task.toml",
        "clients/bank-a.toml", "clients/bank-b.toml",
    }  # fmt: skip
    before = {path: path.read_bytes() for path in written}

    again = finsecure(*arguments, "bank-a,bank-c")

    assert again.returncode == 2
    assert "[ALREADY_INITIALISED]" in again.stderr
    assert {path: path.read_bytes() for path in written} == before
    assert not (tmp_path / "f" / "clients" / "bank-c.toml").exists()


def test_init_refuses_a_client_that_is_named_twice(tmp_path: Path) -> None:
    result = finsecure("init", str(tmp_path), "--federation", "x1", "--clients", "bank-a,bank-a")
    assert result.returncode == 2
    assert "[ID_REPEATED]" in result.stderr


def test_the_command_line_itself_never_loads_torch() -> None:
    code = "import finsecure_cli.main, sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([command_path("python"), "-c", code], check=False, timeout=60)
    assert done.returncode == 0


def test_what_is_logged_never_mixes_with_what_a_program_reads() -> None:
    program = (
        "from finsecure_cli import main; from finsecure_rpc.logs import get_logger;"
        "main.run = lambda app: get_logger('test').warning('something'); main.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "something" in done.stderr
