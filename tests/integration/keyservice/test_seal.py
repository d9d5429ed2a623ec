"""The key service under a seal as a real process: killed, sealed under traffic, and searched."""

import asyncio
import base64
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from finsecure.keyservice.v1 import audit_pb2, audit_pb2_grpc, seal_pb2, seal_pb2_grpc
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_cli.processes import command_path
from finsecure_crypto.audit_event import Event
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import FinSecureError, UnavailableError
from finsecure_crypto.key_seal import OperatorShare
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.local_api_keys import issue_locally
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.seal import local
from finsecure_keyservice.seal.unlocking import unlock
from finsecure_rpc.audit import LogFollower, LogMemory
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.config import load
from finsecure_rpc.connection import Connection
from finsecure_rpc.enrolment import enrol
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.unsealing import seal_status

from tests.support.keyservice_process import Process
from tests.support.postgresql import database_of, dump, needs_postgresql
from tests.support.softhsm import needs_softhsm, new_token


def _file(_: Path) -> str:
    return ""


def _token(folder: Path) -> str:
    lines = (f'{name} = "{value}"\n' for name, value in new_token(folder).settings.items())
    return "[protection]\n" + "".join(lines)


class SealedProcess(Process):
    """A process under a seal, whose operators carry their shares in their pockets."""

    def __init__(self, folder: Path, database: str, protection: str) -> None:
        limits = "[limits]\nmember_calls_per_s = 10000\n"
        super().__init__(folder, database, f'{protection}[seal]\nshares_dir = "shares"\n{limits}')
        arguments = ("--config", str(self.config))
        self.printed = self.command("init", *arguments, "--operator", "alice")
        self.pockets = sorted((folder / "shares").iterdir())
        self.shares = [path.read_text().strip() for path in self.pockets]
        settings = self.configuration
        protected = settings.protected_by.secret_file
        self.secret = unlock(settings, self.pockets[:2]).read(protected).expose().strip()
        if not protection:
            self.secret = self.secret.split()[1]

    @property
    def needles(self) -> dict[str, bytes]:
        """Each form of what must be nowhere: the protected secret, and the shares."""
        found = {f"share {n}": text[-57:-9].encode() for n, text in enumerate(self.shares)}
        raw = {f"{n}, raw": base64.urlsafe_b64decode(text) for n, text in found.items()}
        forms = {"the secret": self.secret, "in base64": base64.b64encode(self.secret)[:40]}
        with suppress(ValueError):
            forms["the key, raw"] = bytes.fromhex(self.secret.decode())
        return {**found, **raw, **forms}

    @property
    def configuration(self) -> Configuration:
        return load(self.config, Configuration)

    async def give(self, *numbers: int) -> str:
        """What the command does on the service's own machine."""
        shares = [OperatorShare.parse(self.shares[number - 1]) for number in numbers]
        return await local.unseal(self.configuration, shares)

    def finsecure(self, *arguments: str) -> str:
        """Run the operator's command, which is elsewhere."""
        program = command_path("finsecure")
        return self.run(program, *arguments, "--config", str(self.folder / "operator.toml"))

    def write_operator(self, identity: str) -> None:
        (self.folder / "operator.toml").write_text(
            f'federation = "lending"\nidentity_dir = "{identity}"\nroot = "state/root.pem"\n'
            f'keyservice = "{self.address}"\nkeyservice_enrol = "{self.enrol_address}"\n'
            'aggregator = "127.0.0.1:1"\n'
        )

    async def status(self) -> seal_pb2.SealStatus:
        """Where the seal stands, once anybody answers."""
        async with (
            asyncio.timeout(120),
            open_anonymous_channel(self.enrol_address, self.root_pem) as channel,
        ):
            while True:
                with suppress(UnavailableError):
                    return await seal_status(channel, self.enrol_address)
                await asyncio.sleep(0.1)

    def in_memory(self, needles: dict[str, bytes]) -> set[str]:
        """Which of the needles the memory of the process holds."""
        assert self.process is not None
        found = set()
        longest = max(map(len, needles.values()))
        maps = Path(f"/proc/{self.process.pid}/maps").read_text().splitlines()
        with Path(f"/proc/{self.process.pid}/mem").open("rb") as memory:
            for line in maps:
                span, rights, *_ = line.split()
                if rights[:2] != "rw":
                    continue
                start, end = (int(each, 16) for each in span.split("-"))
                before = b""
                for at in range(start, end, 1 << 24):
                    try:
                        memory.seek(at)
                        part = before + memory.read(min(1 << 24, end - at))
                    except (OSError, ValueError):  # a region of the kernel's own
                        break
                    found |= {name for name, needle in needles.items() if needle in part}
                    before = part[-longest:]
        return found

    def on_disk(self, needles: dict[str, bytes]) -> set[tuple[str, str]]:
        """Which of the needles lie in any file, the log and the database included."""
        held = {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        if "://" in self.database:
            held["database"] = dump(self.database)
        held["terminal"] = self.printed.encode()
        return {
            (name, where)
            for where, content in held.items()
            for name, needle in needles.items()
            if needle in content
        }


@pytest.fixture(
    params=[
        ("sqlite", _file),
        pytest.param(("sqlite", _token), marks=(needs_softhsm, pytest.mark.slow)),
        pytest.param(("postgresql", _file), marks=(needs_postgresql, pytest.mark.slow)),
        pytest.param(
            ("postgresql", _token), marks=(needs_postgresql, needs_softhsm, pytest.mark.slow)
        ),
    ]
)
def process(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SealedProcess]:
    database, protection = request.param
    process = SealedProcess(tmp_path, database_of(database, tmp_path), protection(tmp_path))
    pocket = tmp_path_factory.mktemp("pocket")
    process.pockets = [path.rename(pocket / path.name) for path in process.pockets]
    process.start()
    yield process
    if process.process is not None and process.process.poll() is None:
        process.stop(signal.SIGKILL)


async def test_keys_come_with_enough_operators_and_go_when_one_officer_says(
    process: SealedProcess,
) -> None:
    needles = process.needles
    secret = {name: needle for name, needle in needles.items() if "share" not in name}
    assert process.on_disk(needles) == set()

    # Killed while half unsealed: nothing of the first share is left.
    assert (await process.status()).state == seal_pb2.SEAL_STATE_SEALED
    assert (await process.give(1)).startswith("sealed: 1 of the 2 shares")
    assert process.in_memory(secret) == set()
    process.stop(signal.SIGKILL)
    process.start()
    assert (await process.status()).shares_given == 0
    assert process.stop() == 0  # told to stop while it is sealed
    process.start()

    # One operator on the machine, one elsewhere; the process goes on by itself.
    process.write_operator("alice")
    await process.status()
    arguments = ("unseal", "--config", str(process.config))
    said = process.command(*arguments, "--share-file", str(process.pockets[0]))
    assert said.startswith("sealed: 1 of the 2 shares")
    said = process.finsecure("unseal", "--share-file", str(process.pockets[2]))
    assert said.startswith("unsealed (set ")
    assert "unsealed" in process.finsecure("seal-status")
    assert process.in_memory(secret) != set()  # so the search does find what is there
    officer = await _officer(process)

    # The first decision of the open service is on record, and says which shares came.
    follower = LogFollower(officer, LogMemory(process.folder / "memory"))
    events = [Event.parse(leaf) async for leaf in follower.events()]
    started = [event for event in events if not event.caller.startswith("local:")]
    assert started[0].action == "service.unseal"
    assert started[0].details["shares"] == "1,3"
    assert started[0].details["set"] == process.shares[0].split("_")[1]
    arguments = ("sealed", "--config", str(process.config), "--detail", "address_3")
    files = [f"--share-file={path}" for path in process.pockets[:2]]
    address = process.command(*arguments, *files, typed="ipv4:127.0.0.1").strip()
    assert address == started[0].details["address_3"]

    # Sealed under traffic: streams end, calls are refused, the memory is given back.
    await _seal_under_traffic(process, officer)
    status = await process.status()
    assert (status.state, status.shares_given) == (seal_pb2.SEAL_STATE_SEALED, 0)
    assert process.in_memory(needles) == set()
    process.stop(signal.SIGKILL)
    process.start()
    assert (await process.status()).state == seal_pb2.SEAL_STATE_SEALED
    assert (await process.give(2, 3)).startswith("unsealed (set ")
    async with process.connect(IdentityStore(process.folder / "olivia")) as again:
        follower = LogFollower(again, LogMemory(process.folder / "memory"))
        later = [Event.parse(leaf) async for leaf in follower.events()][len(events) :]
    (sealing,) = (event for event in later if event.action == "service.seal")
    assert sealing.caller == "spiffe://finsecure.test/officer/olivia"
    assert sealing.details["reason"] != "drill"
    assert process.stop() == 0
    assert process.on_disk(needles) == set()
    await officer.close()


async def _officer(process: SealedProcess) -> Connection:
    key, folder = process.folder / "olivia.api-key", process.folder / "olivia"
    files = unlock(process.configuration, process.pockets[1:])
    now = system_clock()
    olivia = MemberName(None, Role.OFFICER, "olivia")
    issue_locally(process.configuration, olivia, key, now, files)
    secret = SecretBytes(key.read_bytes().strip())
    await enrol(process.enrol_address, process.root_pem, secret, folder)
    process.write_operator("olivia")
    return process.connect(IdentityStore(folder))


async def _seal_under_traffic(process: SealedProcess, officer: Connection) -> None:
    assert process.process is not None
    request = members.ListMembersRequest(parent="")
    answered = asyncio.Event()

    async def watch() -> None:
        stub = officer.stub(audit_pb2_grpc.AuditServiceStub)
        async for _ in officer.stream(
            stub.WatchEvents, audit_pb2.WatchEventsRequest(), deadline_s=600
        ):
            pass

    async def ask() -> None:
        while True:
            stub = officer.stub(members_grpc.MemberServiceStub)
            await officer.call(stub.ListMembers, request)
            answered.set()

    tasks = [asyncio.create_task(each()) for each in (watch, ask, ask)]
    await answered.wait()
    said = await asyncio.to_thread(process.finsecure, "seal", "--reason", "drill")
    assert said.startswith("sealed: ")
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, UnavailableError) for end in ends), ends
    status = await process.status()
    assert process.process.poll() is None  # the same process, to whoever watches over it
    assert status.state == seal_pb2.SEAL_STATE_SEALED
    with pytest.raises(FinSecureError, match="SERVICE_SEALED"):
        await officer.call(
            officer.stub(members_grpc.MemberServiceStub).ListMembers,
            request,
            deadline_s=60,
            wait_for_ready=True,
        )
    with pytest.raises(FinSecureError, match="SERVICE_SEALED"):  # a second officer was late
        await officer.call(
            officer.stub(seal_pb2_grpc.SealServiceStub).Seal, seal_pb2.SealRequest(reason="x")
        )


async def test_what_cannot_be_recorded_keeps_the_service_sealed(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    more = f'audit_file = "{archive}/audit.jsonl"\n'
    process = SealedProcess(tmp_path, database_of("sqlite", tmp_path), "")
    text = process.config.read_text()
    process.config.write_text(text.replace("[seal]", f"{more}[seal]"))
    process.start()
    try:
        await process.status()
        for _ in range(2):
            with pytest.raises(UnavailableError, match="UNSEALING_FAILED"):
                await process.give(1, 2)
            status = await process.status()
            assert (status.state, status.shares_given) == (seal_pb2.SEAL_STATE_SEALED, 0)
            assert status.failure
            assert process.in_memory(process.needles) == set()
        archive.mkdir()
        assert (await process.give(2, 3)).startswith("unsealed")
        assert process.stop() == 0
    finally:
        if process.process is not None and process.process.poll() is None:
            process.stop(signal.SIGKILL)
