"""A federation of real processes for the drills of the operator's guide, with people at shells.

>>> with drill_federation(tmp_path / "federation", trustees=TRUSTEES) as federation:
...     federation.create_task("masked", MASKS)
...     federation.train_on("masked")
...     federation.shell.run(OPERATIONS, "authority")
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finsecure_cli.deployment import Deployment, bring_up
from finsecure_cli.processes import ServiceProcess
from finsecure_cli.renewal import renew_if_due
from finsecure_cli.transport import Services
from finsecure_rpc.identity_store import Identity, IdentityStore

from tests.support.documents import PATIENCE_S, Shell
from tests.support.lending_club import write_files

BANKS = ("bank-a", "bank-b", "bank-c")
TRUSTEES = ("trustee-1", "trustee-2", "trustee-3")
LIST_S = 20
"""Life of a revocation list: what a change of authorities waits for, twice."""

MASKS = 'profile = "active"'
MODEL_KEY = "federations/lending/keyRings/models/cryptoKeys/global"
ROLES = {"carol": "officer", "dave": "officer", "eve": "viewer"}
_REFUSALS = re.compile("CERTIFICATE|REVOCATION|MEMBER_|SERVER_UNTRUSTED|ROLE_|KEY_|AUDIT_")


class DrillFederation:
    """A federation that runs; each round of its tasks needs all three banks.

    Attributes:
        shell: runs commands as the operator, or as who a comment says.
        processes: what runs, by name.
    """

    def __init__(self, folder: Path) -> None:
        self.deployment = Deployment(folder)
        self.processes: dict[str, ServiceProcess] = {}
        people = {"officer one": "carol", "officer two": "dave", "auditor": "eve"}
        self.shell = Shell(
            folder,
            {"NEXT": self._next, "PROPOSAL": self._proposal},
            people={who: folder / f"{name}.toml" for who, name in people.items()},
            patient={"AUTHORITY_NOT_PROPAGATED", "AUTHORITY_NEEDED", "ENDORSEMENT_TAINTED"},
            meanwhile=self.audit,  # who runs no command renews nothing
        )

    @property
    def folder(self) -> Path:
        """Where everything is."""
        return self.deployment.folder

    @property
    def keyservice(self) -> str:
        """The key service's configuration."""
        return str(self.folder / "keyservice.toml")

    def start(self, trustees: Sequence[str]) -> None:
        """Write all files, bring everything up, and enrol the people."""
        files = write_files(self.deployment, rounds=1000, banks=BANKS, trustees=trustees)
        asyncio.run(files)
        config = Path(self.keyservice)
        text = re.sub(r"(?m)^certificate_lifetime_h .*$", "", config.read_text())
        lifetimes = f"certificate_lifetime_h = 0.5\nrevocation_list_lifetime_h = {LIST_S / 3600}\n"
        config.write_text(f"{lifetimes}{text}")
        for name in ("aggregator.toml", "operator.toml"):
            path = self.folder / name
            path.write_text(f'model_key = "{MODEL_KEY}"\n{path.read_text()}')
        for path in self.deployment.clients.values():
            pinned = f'[policy]\nmodel_key = "{MODEL_KEY}"\n'
            path.write_text(path.read_text().replace("[policy]\n", pinned))
        asyncio.run(
            bring_up(
                self.deployment,
                clients=True,
                started=lambda process: self.processes.update({process.name: process}),
            )
        )
        (self.folder / "keyservice" / "root.key").rename(self.folder / "root.key")
        for who, config in self.shell.people.items():
            self._enrol(who, config)

    def stop(self) -> None:
        """Kill everything."""
        self.shell.close()
        for process in self.processes.values():
            process.kill()

    def document(self, *command: str, person: str = "") -> Any:
        """What a command of `finsecure` prints as JSON."""
        return json.loads(self.shell.call("finsecure", *command, "--json", person=person))

    def write_task(self, name: str, security: str) -> None:
        """Write `task.toml`."""
        path = self.folder / "task.toml"
        changes = {"name": f'"{name}"', "minimum": "3", "maximum": "3"}
        changes |= {"epochs": "1", "interval_s": "8"}
        phases = ("advertise_keys", "share_keys", "submit_input", "confirm_survivors")
        changes |= {f"{phase}_s": "60" for phase in (*phases, "reveal_shares")}
        text = path.read_text()
        for key, value in changes.items():
            text, count = re.subn(rf"(?m)^{key} = \S+", f"{key} = {value}", text)
            assert count == 1, key
        text = re.sub(r"(?ms)^\[security\]\n.*?\n\n", f"[security]\n{security}\n\n", text)
        path.write_text(text)

    def create_task(self, name: str, security: str) -> None:
        """Create a task; its rounds begin."""
        self.write_task(name, security)
        self.shell.call("finsecure", "task", "create", "task.toml")

    def rounds(self, task: str) -> list[Any]:
        """The rounds of a task, oldest first; asked for in this process, because it is often."""

        async def listed() -> list[Any]:
            settings = self.deployment.operator
            await renew_if_due(settings)
            async with Services(settings) as services:
                return list(await services.list_rounds(task))

        return asyncio.run(listed())

    def train_on(self, *tasks: str) -> None:
        """Wait until each task has completed a round that began after now."""
        began = {task: len(self.rounds(task)) for task in tasks}
        end = time.monotonic() + PATIENCE_S
        for task, count in began.items():
            while not any(round_["state"] == "completed" for round_ in self.rounds(task)[count:]):
                assert time.monotonic() < end, self.document("task", "show", task)
                time.sleep(0.3)

    def audit(self) -> None:
        """The auditor goes on with her own copy of the log, which has to fit what she has."""
        self.shell.call("finsecure", "audit", "export", "archive.jsonl", person="auditor")

    def log_key(self) -> str:
        """The audit log's key, as the auditor has it."""
        remembered = json.loads((self.folder / "eve" / "audit.json").read_text())
        return str(remembered["verifier_key"])

    def identities(self) -> dict[str, Identity]:
        """Everybody's identity, by their SPIFFE IDs."""
        links = sorted(self.folder.rglob("current"))
        found = [IdentityStore(link.parent).current() for link in links]
        return {str(identity.spiffe_id): identity for identity in found}

    def refused_calls(self) -> list[Any]:
        """Calls that a service refused for who called, and streams that ended with an authority.

        A watch that was opened with a certificate of a former authority ends with it and is opened
        again, so that one is left out.
        """
        found = []
        for process in self.processes.values():
            for line in process.log.read_text().splitlines():
                entry = json.loads(line) if line.startswith("{") else {}
                if entry.get("event") != "call refused" or not _REFUSALS.search(entry["code"]):
                    continue
                if "Watch" not in entry["method"] or entry["code"] != "CERTIFICATE_UNTRUSTED":
                    found.append(entry)
        return found

    def _enrol(self, who: str, config: Path) -> None:
        name, text = config.stem, (self.folder / "operator.toml").read_text()
        config.write_text(text.replace('identity_dir = "operator"', f'identity_dir = "{name}"'))
        made = ("--role", ROLES[name], "--operator", name, "--output", f"{name}.key")
        self.shell.call("finsecure-keyservice", "operator-key", "--config", self.keyservice, *made)
        key = ("--api-key-file", f"{name}.key")
        self.shell.call("finsecure", "operator", "enrol", *key, person=who)

    def _next(self) -> str:
        return re.findall(r"(\w+): sign ", self.shell.output)[-1]

    def _proposal(self) -> str:
        (proposal,) = self.document("approval", "list", person="officer two")
        return str(proposal["name"]).rpartition("/")[2]


@contextmanager
def drill_federation(folder: Path, trustees: Sequence[str] = ()) -> Iterator[DrillFederation]:
    """Run a federation for as long as the context lasts."""
    federation = DrillFederation(folder)
    try:
        federation.start(trustees)
        yield federation
    finally:
        federation.stop()
