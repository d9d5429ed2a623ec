"""The commands of a document, run as they stand.

A block of shell commands below a comment `<!-- drill: NAME -->` can be run by that name, in a
folder that a test has prepared. Only the words in capitals that the document asks its reader to
replace are replaced. A comment behind a command that begins with a person ("officer one") says who
types it; a command `… run --config FILE` starts a service, which goes on.

>>> shell = Shell(folder, {"BACKUP": "/backup/monday"})
>>> shell.run(OPERATIONS, "backup")
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from finsecure_cli.processes import command_path

from tests.support.postgresql import BINARIES

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations.md"
PATIENCE_S = 240.0
_MARKED = re.compile(r"^<!-- drill: ([a-z-]+) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PLACEHOLDER = re.compile(r"(?<![-\w])[A-Z]{1,12}\b")
_COMMENT = re.compile(r"\s#\s(.*)$")
_CODE = re.compile(r"\[([A-Z0-9_]+)\]")

Value = str | Callable[[], str]


def drills(document: Path) -> dict[str, str]:
    """The marked blocks of a document by their names, each of which is there once."""
    found = _MARKED.findall(document.read_text())
    assert len(dict(found)) == len(found), "a drill is there twice"
    assert document.read_text().count("<!-- drill:") == len(found), "a marker without its block"
    return dict(found)


class CommandRefusedError(AssertionError):
    """A documented command failed; `code` is its reason code, or empty."""

    def __init__(self, line: str, done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"{line}\n{done.stdout}{done.stderr}")
        codes = _CODE.findall(done.stderr)
        self.code = codes[-1] if codes else ""


class Shell:
    """Runs commands in a folder.

    Args:
        folder: where they run.
        values: what stands for each placeholder; what is called is called when it is needed.
        people: configuration of each person, by what a comment says of who types a command.
        patient: reason codes that say that a command's time has not come; it is repeated.
        proposals: reason codes after which the next command goes on, as after a proposal.
        meanwhile: what others do while a command is repeated.
    """

    def __init__(
        self,
        folder: Path,
        values: Mapping[str, Value],
        *,
        people: Mapping[str, Path] | None = None,
        patient: Collection[str] = (),
        proposals: Collection[str] = ("APPROVAL_REQUIRED",),
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        self.folder = folder
        self.values = dict(values)
        self.people = dict(people or {})
        self.patient = frozenset(patient)
        self.proposals = frozenset(proposals)
        self.meanwhile = meanwhile
        self.output = ""
        self._services: dict[Path, subprocess.Popen[str]] = {}

    def run(self, document: Path, drill: str) -> str:
        """Run a block of a document; returns what its commands printed."""
        where, start = self.folder, len(self.output)
        for line in drills(document)[drill].splitlines():
            if line.strip():
                where = self._line(self._filled(line), where)
        return self.output[start:]

    def call(self, *command: str, person: str = "", typed: str = "") -> str:
        """Run a command of a test's own as a person; returns what it printed."""
        done = self._execute(shlex.join(command), self.folder, person, typed)
        if done.returncode:
            raise CommandRefusedError(shlex.join(command), done)
        return done.stdout

    def start(self, command: str, config: Path) -> None:
        """Start a service and wait until it says that it serves.

        Raises:
            CommandRefusedError: it ended instead.
        """
        self.stop(config)
        log = config.with_suffix(f".{command}.log")
        with log.open("w") as output:
            process = subprocess.Popen(
                [command_path(command), "run", "--config", config], stdout=output, stderr=output
            )
        self._services[config.resolve()] = process
        end = time.monotonic() + PATIENCE_S
        asking = [command_path(command), "health", "--config", config]
        while subprocess.run(asking, capture_output=True, check=False).returncode:
            if process.poll() is not None:
                said = log.read_text()
                done = subprocess.CompletedProcess(command, process.returncode, "", said)
                raise CommandRefusedError(command, done)
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)

    def stop(self, config: Path) -> None:
        """Ask a service to end, if it runs."""
        process = self._services.pop(config.resolve(), None)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._services.values():
            process.kill()
            process.wait()

    def _filled(self, line: str) -> str:
        command, comment = _COMMENT.split(line)[0], _COMMENT.search(line)

        def value(found: re.Match[str]) -> str:
            meant = self.values.get(found[0])
            assert meant is not None, f"nobody says what {found[0]} stands for: {line}"
            return meant if isinstance(meant, str) else meant()

        return _PLACEHOLDER.sub(value, command) + (comment[0] if comment else "")

    def _line(self, line: str, where: Path) -> Path:
        comment = _COMMENT.search(line)
        person = next((who for who in self.people if comment and comment[1].startswith(who)), "")
        match shlex.split(line, comments=True):
            case ["cd", folder]:
                return where / folder
            case [command, "run", "--config", config]:
                self.start(command, where / config)
                return where
        end = time.monotonic() + PATIENCE_S
        while True:
            done = self._execute(line, where, person)
            self.output += done.stdout
            if done.returncode == 0:
                return where
            refused = CommandRefusedError(line, done)
            if refused.code in self.proposals:
                return where
            if refused.code not in self.patient or time.monotonic() > end:
                raise refused
            self.meanwhile()
            time.sleep(0.5)

    def _execute(
        self, line: str, where: Path, person: str = "", typed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        binaries = [str(Path(sys.executable).parent), *([str(BINARIES)] if BINARIES else [])]
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=where,
            env={
                **os.environ,
                "PATH": ":".join([*binaries, os.environ["PATH"]]),
                "FINSECURE_CONFIG": str(self.people.get(person, self.folder / "operator.toml")),
            },
            input=typed,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )


def last_list(shell: Shell) -> str:
    """The number of the last revocation list whose event a command has shown."""
    return re.findall(r"revocation-list\.sign .*\bnumber=(\d+)", shell.output)[-1]
