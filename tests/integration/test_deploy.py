"""The containers: what can be checked without an engine, and their commands run natively.

The shell blocks of deploy/README.md are run as they stand, with the containers' paths and host
names replaced by folders and ports of this machine and `docker compose` by the commands that the
images have as entry points.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.federation import ROOT, free_port

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BIN = Path(sys.executable).parent


def stages(service: str) -> str:
    """The stages of the Dockerfile that a service's image is made of."""
    build = SERVICES[service]["build"]
    text = (DEPLOY / build["context"] / "Dockerfile").read_text()
    found: dict[str, str] = {}
    for stage in re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]:
        base, name = re.match(r"FROM (\S+) AS (\S+)", stage).groups()
        others = re.findall(r"^COPY --from=(\S+)", stage, re.MULTILINE)
        found[name] = "".join(found.get(other, "") for other in (base, *others)) + stage
    return found[build["target"]]


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_hardened(service):
    described = SERVICES[service]
    assert described["read_only"] is True
    assert described["user"] == "10001:10001"
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    limits = described["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= limits.keys()
    assert "environment" not in described  # secrets are files
    assert "privileged" not in described
    assert service == "client" or described["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_is_built_in_stages_and_runs_without_rights(service):
    text = stages(service)
    assert len(re.findall(r"^FROM python:3\.11-slim", text, re.MULTILINE)) >= 2
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert f'ENTRYPOINT ["finsecure-{service}"]' in text
    assert "requirements.lock" in text
    # An image is no narrower than what its configuration file offers.
    extras = (
        {"homomorphic", "torch"}
        if service == "client"
        else {"homomorphic", "hsm", "oidc", "postgres"}
    )
    assert set(re.findall(r"\[([a-z,]+)\]\"", text)[-1].split(",")) == extras
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path


def test_images_are_built_from_sources_alone():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv", "deploy", "demo-out"} <= set(ignored)  # history, secrets, identities
    for service in SERVICES:
        for source in re.findall(r"^COPY (?!--from)(.*) \S+$", stages(service), re.MULTILINE):
            assert not {path.split("/")[0] for path in source.split()} & set(ignored)


def test_networks_and_secrets_are_separate():
    assert COMPOSE["networks"]["control"]["internal"] is True
    assert SERVICES["client"]["networks"] == ["members"]
    states = [
        volume.split(":")[0]
        for described in SERVICES.values()
        for volume in described["volumes"]
        if volume.endswith(":/var/lib/finsecure")
    ]
    assert sorted(states) == sorted(COMPOSE["volumes"]) == sorted(SERVICES)
    used = {name for described in SERVICES.values() for name in described.get("secrets", [])}
    assert used == COMPOSE["secrets"].keys()


class Machine:
    """Stands in for the engine: containers are processes, volumes are folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        shutil.copytree(DEPLOY, folder, dirs_exist_ok=True)
        ports = {f"{name}:{port}": free_port() for name, port in published()}
        for service in [*SERVICES, "operator"]:
            path = folder / "config" / f"{service}.toml"
            text = self.native(service, path.read_text())
            for address, port in ports.items():
                host, number = address.split(":")
                for alias in (address, f"localhost:{number}"):
                    text = text.replace(f'"{alias}"', f'"localhost:{port}"')
                if host == service:
                    text = text.replace(f'"0.0.0.0:{number}"', f'"127.0.0.1:{port}"')
            path.write_text(text)

    def native(self, service: str, text: str) -> str:
        """Replace a container's paths by this machine's."""
        described = SERVICES.get(service, {"volumes": []})
        mounts = {}
        for volume in described["volumes"]:
            source, target = volume.split(":")[:2]
            here = source if source.startswith("./") else f"volumes/{source}"
            mounts[target] = str(self.folder / here)
        for name in described.get("secrets", []):
            mounts[f"/run/secrets/{name}"] = str(self.folder / COMPOSE["secrets"][name]["file"])
        for target, here in sorted(mounts.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(target, here)
        return text

    def container(self, service: str, arguments: list[str]) -> list[str]:
        return [str(BIN / f"finsecure-{service}"), *(self.native(service, a) for a in arguments)]

    def run(self, line: str) -> None:
        words = shlex.split(line)
        match words:
            case ["docker", "compose", *rest]:
                self.compose([w for w in rest if not w.startswith("--")], rest)
            case ["export", setting]:
                name, _, value = setting.partition("=")
                os.environ[name] = value
            case ["chown", *_]:
                pass  # there is one user here
            case ["finsecure", *rest]:
                self.call([str(BIN / "finsecure"), *rest])
            case _:
                self.call(words)

    def compose(self, words: list[str], line: list[str]) -> None:
        if words[0] in ("client", "trustee"):  # --profile client
            words = words[1:]
        match words:
            case ["run", service, *_]:
                self.call(
                    self.container(service, line[line.index(service, line.index("run")) + 1 :])
                )
            case ["up", service]:
                self.start(service)
            case ["cp", source, target]:
                service, _, path = source.partition(":")
                shutil.copy(self.native(service, path), self.folder / target)
            case _:
                raise AssertionError(f"deploy/README.md uses what this test does not know: {line}")

    def call(self, command: list[str]) -> None:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def start(self, service: str) -> None:
        with (self.folder / f"{service}.log").open("wb") as log:
            self.running[service] = subprocess.Popen(
                self.container(service, SERVICES[service]["command"]),
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        if "healthcheck" in SERVICES[service]:
            self.wait_until_healthy(service)

    def wait_until_healthy(self, service: str) -> None:
        _, name, *arguments = SERVICES[service]["healthcheck"]["test"]
        assert name == f"finsecure-{service}"
        deadline = time.monotonic() + 45
        while True:
            command = self.container(service, arguments)
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
            if done.returncode == 0:
                return
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.3)

    def stop(self) -> None:
        for process in reversed(self.running.values()):
            process.send_signal(signal.SIGTERM)
        for service, process in self.running.items():
            assert process.wait(30) == 0, (self.folder / f"{service}.log").read_text()


def published() -> list[tuple[str, int]]:
    return [
        (service, int(mapping.split(":")[1]))
        for service, described in SERVICES.items()
        for mapping in described.get("ports", [])
    ]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("FINSECURE_CONFIG", "")  # so that what the README exports is undone
    made = Machine(tmp_path)
    yield made
    made.stop()


def test_the_documented_commands_bring_everything_up(machine):
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (DEPLOY / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    for line in "".join(blocks).splitlines():
        machine.run(line)
    assert machine.running.keys() == SERVICES.keys()
    machine.call([str(BIN / "finsecure"), "task", "list"])
    client = machine.folder / "client.log"
    time.sleep(2)
    assert machine.running["client"].poll() is None, client.read_text()
