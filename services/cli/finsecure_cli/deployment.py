"""A federation's folder of configuration files, and what it takes to bring it up."""

import asyncio
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc.console import read_api_key
from finsecure_rpc.identity_store import IdentityStore

from finsecure_cli import federation_transport
from finsecure_cli.enrolment import enrol_operator
from finsecure_cli.processes import SERVERS, ServiceProcess, run_command
from finsecure_cli.renewal import renew_if_due
from finsecure_cli.settings import OperatorSettings, load_operator
from finsecure_cli.templates import Plan
from finsecure_cli.transport import Services

OPERATOR_ID = "admin"
AGGREGATOR_ID = "main"


@dataclass(frozen=True)
class Deployment:
    """All configuration files of one federation on one machine.

    Attributes:
        folder: where they are.
    """

    folder: Path

    @property
    def clients(self) -> dict[str, Path]:
        """Configuration file of each client, by its id."""
        return {path.stem: path for path in sorted(self.folder.glob("clients/*.toml"))}

    @property
    def trustees(self) -> dict[str, Path]:
        """Configuration file of each trustee, by its id."""
        return {path.stem: path for path in sorted(self.folder.glob("trustees/*.toml"))}

    @property
    def operator(self) -> OperatorSettings:
        """The operator's configuration."""
        return load_operator(self.folder / "operator.toml")

    @property
    def _keyservice_state(self) -> Path:
        return self.folder / _value(self.folder / "keyservice.toml", "state_dir")

    def process(self, service: str) -> ServiceProcess:
        """Return the process of `keyservice`, `aggregator`, a trustee or a client, not started."""
        if service in SERVERS:
            command, config = f"finsecure-{service}", self.folder / f"{service}.toml"
        elif service in self.trustees:
            command, config = "finsecure-trustee", self.trustees[service]
        else:
            command, config = "finsecure-client", self.clients[service]
        return ServiceProcess(
            service,
            [command, "run", "--config", str(config)],
            self.folder / "logs" / f"{service}.log",
        )

    async def found_key_service(self) -> None:
        """Make the authority and the first operator's API key, unless that has been done."""
        state = self._keyservice_state
        if not (state / "root.pem").exists():
            config = self.folder / "keyservice.toml"
            await run_command(
                ["finsecure-keyservice", "init", "--operator", OPERATOR_ID, "--config", str(config)]
            )
        if not (self.folder / "root.pem").exists():
            shutil.copy(state / "root.pem", self.folder / "root.pem")

    async def enrol_operator(self) -> None:
        """Give the operator an identity, unless there is one; the spent API key is removed."""
        settings = self.operator
        if IdentityStore(settings.identity_dir).exists():
            await renew_if_due(settings)
            return
        key_file = self._keyservice_state / f"operator-{OPERATOR_ID}.api-key"
        if not key_file.exists():
            # The first key was lost. Whoever owns the key service's files may make another.
            config = str(self.folder / "keyservice.toml")
            command = ["finsecure-keyservice", "operator-key", "--operator", OPERATOR_ID]
            await run_command([*command, "--config", config, "--output", str(key_file)])
        await enrol_operator(settings, read_api_key(key_file))
        key_file.unlink()

    async def register_federation(self, services: Services) -> None:
        """Open the federation, unless it is open."""
        known = await federation_transport.list_federations(services)
        if services.federation in {item["name"] for item in known}:
            return
        wanted = self.operator.new_federation
        await federation_transport.create_federation(
            services, services.federation, "", wanted.minimum_cohort, wanted.minimum_sum_cohort
        )

    async def enrol(self, services: Services, service: str) -> bool:
        """Register and enrol a member that runs here; returns whether there was need to."""
        if service == "aggregator":
            name = f"{services.federation}/aggregators/{AGGREGATOR_ID}"
            command = "finsecure-aggregator"
            config = self.folder / "aggregator.toml"
            identity = _value(config, "identity_dir")
        elif service in self.trustees:
            name = f"{services.federation}/trustees/{service}"
            command = "finsecure-trustee"
            config = self.trustees[service]
            identity = _value(config, "identity_dir")
        else:
            name = f"{services.federation}/clients/{service}"
            command = "finsecure-client"
            config = self.clients[service]
            identity = _value(config, "client", "identity_dir")
        if IdentityStore(config.parent / identity).exists():
            return False
        if service in self.trustees:
            api_key = await self._trustee_key(service)
        elif name in {item["name"] for item in await services.list_members(services.federation)}:
            api_key = await services.issue_api_key(name)
        else:
            _, api_key = await services.create_member(name, "")
        # Through a pipe: an API key is never among a process' arguments.
        await run_command(
            [command, "enrol", "--config", str(config), "--api-key-file", "-"],
            stdin=api_key.encode(),
        )
        return True

    async def _trustee_key(self, trustee: str) -> str:
        """Let whoever owns the key service's files register a trustee.

        Over the network it takes two security officers, and a new federation has none.
        """
        key_file = self._keyservice_state / f"trustee-{trustee}.api-key"
        key_file.unlink(missing_ok=True)  # of a start that was cut off
        config = str(self.folder / "keyservice.toml")
        command = ["finsecure-keyservice", "trustee-key", "--config", config]
        command += ["--federation", self.operator.federation, "--trustee", trustee]
        await run_command([*command, "--output", str(key_file)])
        api_key = read_api_key(key_file).expose().decode()
        key_file.unlink()
        return api_key


def initialise(folder: Path, plan: Plan) -> list[Path]:
    """Write a federation's configuration files.

    Raises:
        ConfigurationError: ALREADY_INITIALISED; nothing is overwritten, nothing was written.
    """
    files = {folder / name: text for name, text in plan.files().items()}
    existing = [path for path in files if path.exists()]
    if existing:
        raise ConfigurationError(
            "ALREADY_INITIALISED",
            f"{existing[0]} exists; edit it, or name a new folder. Nothing was changed",
        )
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("data", "models"):
        (folder / name).mkdir(exist_ok=True)
    return list(files)


async def bring_up(
    deployment: Deployment,
    *,
    clients: bool,
    started: Callable[[ServiceProcess], None],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Make what is missing, then start the services and, if wanted, the clients.

    Args:
        deployment: the federation's folder.
        clients: whether to enrol and start all clients too.
        started: is told of each process right after it was started, so that its owner can stop it
            whatever happens next.
        say: is told in words what is being done.

    Raises:
        FinSecureError: what a configuration, a service or a command says.
    """
    settings = deployment.operator
    await deployment.found_key_service()
    keyservice = deployment.process("keyservice")
    keyservice.start()
    started(keyservice)
    await keyservice.wait_until_listening(settings.keyservice, settings.keyservice_enrol)
    say(f"key service: {settings.keyservice}, enrolment at {settings.keyservice_enrol}")
    await deployment.enrol_operator()
    async with Services(settings, wait_for_ready=True) as services:
        await deployment.register_federation(services)
        await deployment.enrol(services, "aggregator")
        aggregator = deployment.process("aggregator")
        aggregator.start()
        started(aggregator)
        await aggregator.wait_until_listening(settings.aggregator)
        say(f"aggregator: {settings.aggregator}")

        async def start_trustee(trustee: str) -> None:
            await deployment.enrol(services, trustee)
            process = deployment.process(trustee)
            process.start()
            started(process)
            address = _value(deployment.trustees[trustee], "listen")
            await process.wait_until_listening(address)
            say(f"trustee {trustee}: {address}")

        await asyncio.gather(*map(start_trustee, deployment.trustees))

        async def start_client(client: str) -> None:
            fresh = await deployment.enrol(services, client)
            process = deployment.process(client)
            process.start()
            started(process)
            say(f"client {client}: {'enrolled and ' if fresh else ''}started")

        if clients:
            await asyncio.gather(*map(start_client, deployment.clients))


def _value(config: Path, *keys: str) -> str:
    """Read one value of a service's configuration; the service itself checks the file strictly."""
    try:
        content = tomllib.loads(config.read_text())
    except FileNotFoundError as error:
        raise ConfigurationError(
            "CONFIG_MISSING", f"there is no {config}; write it with `finsecure init`"
        ) from error
    except ValueError as error:
        raise ConfigurationError("CONFIG_INVALID", f"{config} is not TOML: {error}") from error
    try:
        for key in keys:
            content = content[key]
        return str(content)
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            "CONFIG_INVALID", f"{config} has no {'.'.join(keys)}; compare the service's example"
        ) from error
