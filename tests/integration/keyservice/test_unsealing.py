"""A sealed key service: what it answers, which shares it takes, and how reluctantly."""

import asyncio
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from finsecure.keyservice.v1 import (
    certificates_pb2,
    certificates_pb2_grpc,
    members_pb2_grpc,
    seal_pb2,
    seal_pb2_grpc,
)
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure_crypto.errors import (
    AuthenticationError,
    ConfigurationError,
    FinSecureError,
    InvalidArgumentError,
    UnavailableError,
)
from finsecure_crypto.key_seal import KeySeal, OperatorShare
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice import backup, main
from finsecure_keyservice.audit_key_rotation import rotate_audit_key
from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.list_renumbering import renumber_list
from finsecure_keyservice.pepper_rotation import rotate_pepper
from finsecure_keyservice.protection.secret_files import CLEAR, SealedFiles
from finsecure_keyservice.rewrapping import rotate_key_encryption_key
from finsecure_keyservice.running import serve
from finsecure_keyservice.seal import local, unlocking
from finsecure_keyservice.seal.resharing import end_seal, reshare
from finsecure_keyservice.seal.unlocking import unlock
from finsecure_keyservice.seal.unsealing import Unsealing
from finsecure_keyservice.serving import opened
from finsecure_keyservice.state import StateFolder
from finsecure_rpc.call import call
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.enrolment import enrol
from finsecure_rpc.status import RateExceededError
from finsecure_rpc.unsealing import give_shares, open_local_channel, read_share
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from tests.support.keyservice_deployment import new_id
from tests.support.sealed import Sealed, sealed_configuration
from tests.support.softhsm import needs_softhsm, new_token

FAST = {"enrolment_calls_per_s": 5000}


def _file(folder: Path) -> dict[str, object]:
    return {}


def _token(folder: Path) -> dict[str, object]:
    return {"protection": new_token(folder).settings}


KINDS = pytest.mark.parametrize("kind", [_file, pytest.param(_token, marks=needs_softhsm)])
Kind = Callable[[Path], dict[str, object]]


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    return Sealed.found(tmp_path, system_clock, limits=FAST)


async def test_a_sealed_service_answers_only_how_to_open_it(sealed: Sealed) -> None:
    async with sealed.closed() as service, service.channel() as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=10
        )
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        status = (
            await seal_pb2_grpc.SealServiceStub(channel).GetSealStatus(
                seal_pb2.GetSealStatusRequest(), timeout=10
            )
        ).status
        assert status == seal_pb2.SealStatus(
            state=seal_pb2.SEAL_STATE_SEALED,
            share_set=sealed.shares[0].set_id,
            threshold=2,
            shares=3,
        )
        enrolment = certificates_pb2_grpc.EnrolmentServiceStub(channel)
        certificate = certificates_pb2_grpc.CertificateServiceStub(channel)
        stub = members_pb2_grpc.MemberServiceStub(channel)
        for method, request in (
            (enrolment.Enrol, certificates_pb2.EnrolRequest()),
            (enrolment.GetTrustBundle, certificates_pb2.GetTrustBundleRequest()),
            (stub.CreateMember, members.CreateMemberRequest()),
            (seal_pb2_grpc.SealServiceStub(channel).Seal, seal_pb2.SealRequest()),
        ):
            with pytest.raises(UnavailableError, match=r"finsecure unseal.*SERVICE_SEALED"):
                await call(method, request, deadline_s=10)  # type: ignore[arg-type]
        with pytest.raises(grpc.aio.AioRpcError) as caught:  # a stream too
            async for _ in certificate.WatchRevocationList(
                certificates_pb2.WatchRevocationListRequest(), timeout=10
            ):
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_only_whole_different_shares_of_the_set_count(sealed: Sealed, tmp_path: Path) -> None:
    other = KeySeal.create(2, 3).shares
    first, second = (share.expose() for share in sealed.shares[:2])
    forged = f"{first[:22]}2{first[23:]}"
    async with sealed.closed() as service, service.channel() as channel:
        for wrong, kind, code in (
            (other[0].expose(), AuthenticationError, "SHARE_OF_ANOTHER_SET"),
            (first[:-1] + ("0" if first[-1] != "0" else "1"), InvalidArgumentError, "MALFORMED"),
            (first[:60], InvalidArgumentError, "SHARE_MALFORMED"),
            (forged, InvalidArgumentError, "SHARE_MALFORMED"),
            ("", InvalidArgumentError, "INVALID_MESSAGE"),
            ("x" * 129, InvalidArgumentError, "INVALID_MESSAGE"),
        ):
            with pytest.raises(kind, match=code) as caught:
                await service.give(channel, wrong)
            assert len(wrong) < 20 or wrong[23:60] not in str(caught.value)
        assert service.unsealing.given == 0
        for _ in range(3):
            status = await service.give(channel, first)
            assert (status.state, status.shares_given) == (seal_pb2.SEAL_STATE_SEALED, 1)
        with pytest.raises(AuthenticationError):
            await service.give(channel, other[1].expose())
        assert not service.unsealing.enough.is_set()
        status = await service.give(channel, second)
        assert (status.state, status.shares_given) == (seal_pb2.SEAL_STATE_OPENING, 0)
        assert service.unsealing.enough.is_set()
        assert (await service.give(channel, first)).state == seal_pb2.SEAL_STATE_OPENING
    unsealed = service.unsealing.unsealed
    assert unsealed is not None
    assert sorted(unsealed.addresses) == [1, 2]
    assert unsealed.refused == 5  # what has the form of no message does not arrive


async def test_a_flood_of_garbage_does_not_keep_operators_out(sealed: Sealed) -> None:
    garbage = [share.expose() for share in KeySeal.create(2, 16).shares]
    first, second = sealed.shares[:2]
    async with sealed.closed() as service:
        stopped = asyncio.Event()

        async def flood() -> int:
            refused = 0
            async with service.channel() as channel:
                while not stopped.is_set():
                    for share in garbage:
                        with suppress(FinSecureError):  # an open one takes no notice
                            await service.give(channel, share)
                        refused += 1
            return refused

        floods = [asyncio.create_task(flood()) for _ in range(4)]
        async with service.channel() as channel:
            await give_shares(channel, service.address, [first])
            await give_shares(channel, service.address, [second])
        stopped.set()
        assert sum(await asyncio.gather(*floods)) > 0
    assert service.unsealing.unsealed is not None


async def test_guesses_are_slowed_down_and_the_machine_itself_is_not(tmp_path: Path) -> None:
    sealed = Sealed.found(tmp_path, system_clock, limits={"enrolment_calls_per_s": 0.01})
    garbage = KeySeal.create(2, 3).shares[0].expose()
    async with sealed.closed() as service, service.channel() as channel:
        with pytest.raises(AuthenticationError):
            await service.give(channel, garbage)
        with pytest.raises(RateExceededError):
            await service.give(channel, garbage)
        # An operator on the service's own machine has a place of his own in the queue.
        target = f"unix:{StateFolder(sealed.configuration.state_dir).socket}"
        async with open_local_channel(target) as near:
            status = await give_shares(near, target, sealed.shares[:1])
    assert status.shares_given == 1


async def test_too_few_shares_are_forgotten_in_time(sealed: Sealed) -> None:
    async with (
        sealed.closed(lifetime=timedelta(seconds=0.3)) as service,
        service.channel() as channel,
    ):
        status = await service.give(channel, sealed.shares[0].expose())
        assert status.shares_given == 1
        assert status.HasField("expire_time")
        async with asyncio.timeout(20):
            while service.unsealing.given:  # noqa: ASYNC110  # a timer of its own empties it
                await asyncio.sleep(0.05)
        status = await service.give(channel, sealed.shares[1].expose())
        assert (status.state, status.shares_given) == (seal_pb2.SEAL_STATE_SEALED, 1)


async def test_an_expired_certificate_keeps_strangers_out_and_the_machines_owner_not(
    tmp_path: Path,
) -> None:
    two_days = timedelta(days=2)
    sealed = Sealed.found(tmp_path, lambda: system_clock() - two_days, limits=FAST)
    async with sealed.closed() as service:
        async with service.channel() as channel:
            with pytest.raises((AuthenticationError, UnavailableError)):
                await service.give(channel, sealed.shares[0].expose())
        folder = StateFolder(sealed.configuration.state_dir)
        assert folder.path.stat().st_mode & 0o777 == 0o700
        said = await local.unseal(sealed.configuration, sealed.shares[:1])
        assert said.startswith("sealed: 1 of the 2 shares")
        target = f"unix:{folder.socket}"
        async with open_local_channel(target) as near:
            await give_shares(near, target, sealed.shares[1:2])
        unsealed = service.unsealing.unsealed
    assert unsealed is not None
    # The first thing that an open service does is to renew its own certificate.
    async with opened(sealed.configuration, system_clock, unsealed) as server:
        await server.start()
        root = folder.root.read_bytes()
        async with open_anonymous_channel(f"127.0.0.1:{server.ports[1]}", root) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=10
            )
        await server.stop(0.2)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@KINDS
async def test_new_shares_make_the_former_worthless_and_the_service_goes_on(
    tmp_path: Path, kind: Kind
) -> None:
    sealed = Sealed.found(tmp_path, system_clock, limits=FAST, **kind(tmp_path))
    configuration = sealed_configuration(
        tmp_path,
        limits=FAST,
        seal={"shares_dir": tmp_path / "new", "threshold": 3, "shares": 5},
        protection=sealed.configuration.protection,
    )
    with pytest.raises(InvalidArgumentError, match="SHARES_TOO_FEW"):
        reshare(configuration, sealed.share_files[:1], system_clock())
    assert not (tmp_path / "new").exists()
    async with sealed.open(sealed.shares[:2], system_clock) as server:
        paths = reshare(configuration, sealed.share_files[1:], system_clock())
        assert len(paths) == 5
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
        with pytest.raises(AuthenticationError, match="SHARE_OF_ANOTHER_SET"):
            unlock(configuration, sealed.share_files)
        # It has its keys in memory, and goes on with them.
        root = StateFolder(configuration.state_dir).root.read_bytes()
        key = SecretBytes(sealed.api_key.read_bytes().strip())
        await enrol(f"127.0.0.1:{server.ports[1]}", root, key, tmp_path / "alice")
    now = Sealed(configuration, tuple(read_share(path) for path in paths), paths, sealed.api_key)
    async with sealed.closed() as service, service.channel() as channel:
        with pytest.raises(AuthenticationError, match="SHARE_OF_ANOTHER_SET"):
            await service.give(channel, sealed.shares[0].expose())
        for share in now.shares[:2]:
            await service.give(channel, share.expose())
        assert service.unsealing.unsealed is None
        await service.give(channel, now.shares[4].expose())
        assert service.unsealing.unsealed is not None


async def test_shares_that_wait_do_not_outlive_their_set(sealed: Sealed, tmp_path: Path) -> None:
    async with sealed.closed() as service, service.channel() as channel:
        await service.give(channel, sealed.shares[0].expose())
        paths = reshare(sealed.configuration, sealed.share_files[:2], system_clock())
        with pytest.raises(AuthenticationError, match="SHARE_OF_ANOTHER_SET"):
            await service.give(channel, sealed.shares[1].expose())
        assert service.unsealing.given == 0
        for path in paths[:2]:
            await service.give(channel, read_share(path).expose())
        assert service.unsealing.unsealed is not None


@KINDS
def test_a_service_comes_under_a_seal_and_out_of_it(tmp_path: Path, kind: Kind) -> None:
    more = kind(tmp_path)
    plain = Sealed.found(tmp_path, system_clock, seal=None, **more)
    configuration = sealed_configuration(tmp_path, **more)
    path = configuration.protected_by.secret_file
    clear = path.read_bytes()
    with pytest.raises(ConfigurationError, match="SEAL_NOT_CONFIGURED"):
        reshare(plain.configuration, (), system_clock())
    with pytest.raises(ConfigurationError, match="NOT_SEALED"):
        Unsealing(configuration.protected_by)
    shares = reshare(configuration, (), system_clock())
    assert clear.strip() not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    for settings in (plain.configuration, configuration):
        with pytest.raises(ConfigurationError, match="SERVICE_SEALED"):
            StateFolder(settings.state_dir).open(settings.protected_by)
    with pytest.raises(InvalidArgumentError, match="SHARES_TOO_FEW"):
        end_seal(configuration, shares[:1], system_clock())
    end_seal(configuration, shares[::2], system_clock())
    assert path.read_bytes() == clear
    StateFolder(plain.configuration.state_dir).open(plain.configuration.protected_by)
    with pytest.raises(ConfigurationError, match="NOT_SEALED"):
        unlock(configuration, shares[:2])


@KINDS
async def test_the_key_encryption_key_is_rotated_under_a_seal(tmp_path: Path, kind: Kind) -> None:
    sealed = Sealed.found(tmp_path, system_clock, limits=FAST, **kind(tmp_path))
    protection = sealed.configuration.protected_by
    async with sealed.open(sealed.shares[1:], system_clock) as server:
        with pytest.raises(ConfigurationError, match="SERVICE_SEALED"):
            rotate_key_encryption_key(sealed.configuration, system_clock())
        files = unlock(sealed.configuration, sealed.share_files[:2])
        version, count = rotate_key_encryption_key(sealed.configuration, system_clock(), files)
        assert version == 2
        assert count >= 1
        assert protection.secret_file.read_bytes().startswith(b"finsecure-sealed 1\n")
        # The running service finds the new version: enrolment unwraps what was wrapped anew.
        root = StateFolder(sealed.configuration.state_dir).root.read_bytes()
        key = SecretBytes(sealed.api_key.read_bytes().strip())
        await enrol(f"127.0.0.1:{server.ports[1]}", root, key, tmp_path / "alice")
    async with sealed.open(sealed.shares[:2], system_clock):
        pass


@pytest.mark.parametrize(
    "command", [rotate_pepper, renumber_list, rotate_audit_key, rotate_key_encryption_key]
)
def test_commands_that_use_the_keys_need_shares_and_say_which(
    sealed: Sealed, command: Callable[..., object]
) -> None:
    with pytest.raises(ConfigurationError, match=r"--share-file.*SERVICE_SEALED"):
        command(sealed.configuration, system_clock())
    before = len(sealed.events())
    command(sealed.configuration, system_clock(), unlock(sealed.configuration, sealed.share_files))
    made = sealed.events()[before:]
    assert made
    assert {event.details["opened_by"] for event in made} == {f"{sealed.shares[0].set_id} 1,2,3"}


def test_on_a_terminal_the_shares_that_are_missing_are_asked_for(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [sealed.shares[0], sealed.shares[0], sealed.shares[2]]
    asked: list[str] = []

    def answer(label: str) -> OperatorShare:
        asked.append(label)
        return answers[len(asked) - 1]

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(unlocking, "prompt_share", answer)
    files = unlock(sealed.configuration, ())
    assert files.read(sealed.configuration.protected_by.secret_file).expose().startswith(b"1 ")
    assert asked == ["Share 1 of 2", "Share 2 of 2", "Share 2 of 2"]


def test_a_copy_is_taken_without_shares_and_put_back_with_them(
    sealed: Sealed, tmp_path: Path
) -> None:
    backup.back_up(sealed.configuration, tmp_path / "copy", system_clock())
    file = sealed.configuration.protected_by.secret_file
    copied = [path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert file.read_bytes() not in copied
    elsewhere = sealed_configuration(tmp_path / "elsewhere")
    elsewhere.state_dir.mkdir(parents=True)
    shutil.copy(file, elsewhere.protected_by.secret_file)
    files = unlock(elsewhere, sealed.share_files[:2])
    assert backup.restore(elsewhere, tmp_path / "copy", files) > 0


def test_a_seal_that_was_changed_opens_nothing(sealed: Sealed) -> None:
    path = sealed.configuration.protected_by.secret_file
    good = path.read_bytes()
    path.write_bytes(good.replace(b"threshold 2", b"threshold 3"))
    with pytest.raises(InvalidArgumentError, match="SHARES_TOO_FEW"):
        unlock(sealed.configuration, sealed.share_files[:2])
    files = unlock(sealed.configuration, sealed.share_files)
    with pytest.raises(ConfigurationError, match="SEAL_DAMAGED"):
        files.read(path)
    path.write_bytes(good[:-20])
    with pytest.raises(ConfigurationError, match="SEAL_DAMAGED"):
        Unsealing(sealed.configuration.protected_by)
    path.write_bytes(good)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="KEY_FILE_EXPOSED"):
        Unsealing(sealed.configuration.protected_by)


def test_a_changed_seal_is_said_to_operators(sealed: Sealed) -> None:
    path = sealed.configuration.protected_by.secret_file
    content = path.read_bytes()
    at = content.index(b"secret ") + 10
    other = b"A" if content[at : at + 1] != b"A" else b"B"
    path.write_bytes(content[:at] + other + content[at + 1 :])
    asyncio.run(_two_shares_fail(sealed))


async def _two_shares_fail(sealed: Sealed) -> None:
    async with sealed.closed() as service, service.channel() as channel:
        with pytest.raises(UnavailableError, match=r"SEAL_DAMAGED.*UNSEALING_FAILED"):
            await give_shares(channel, service.address, sealed.shares[:2])
        assert service.unsealing.given == 0
        assert not service.unsealing.enough.is_set()


def test_a_running_service_does_not_take_what_was_sealed_for_others(sealed: Sealed) -> None:
    files = unlock(sealed.configuration, sealed.share_files[:2])
    assert isinstance(files, SealedFiles)
    reshare(sealed.configuration, sealed.share_files[:2], system_clock())
    with pytest.raises(UnavailableError, match="SEAL_CHANGED"):
        files.read(sealed.configuration.protected_by.secret_file)
    with pytest.raises(ConfigurationError, match="SERVICE_SEALED"):
        CLEAR.read(sealed.configuration.protected_by.secret_file)


def test_who_changes_the_seal_is_told_to_copy_the_key_file_before_shares_are_destroyed(
    tmp_path: Path,
) -> None:
    Sealed.found(tmp_path, system_clock, seal=None)
    config = tmp_path / "keyservice.toml"
    config.write_text(
        "domain = 'finsecure.test'\nlisten = '127.0.0.1:0'\nenrol_listen = '127.0.0.1:0'\n"
        "state_dir = 'state'\ndatabase = 'keyservice.db'\n[seal]\nshares_dir = 'shares'\n"
    )
    shares: list[str] = []
    for command in ("reshare", "reshare", "end-seal"):  # under a seal, another one, and out of it
        done = CliRunner().invoke(main.app, [command, "--config", str(config), *shares])
        assert done.exit_code == 0, done.output
        said = " ".join(done.output.split())
        assert f"{tmp_path / 'state' / 'key-encryption.key'} has changed: copy it there" in said
        assert "destroy former shares only after that" in said
        paths = re.findall(r"operator's share +(\S+)", done.output)
        shares = [part for path in paths[:2] for part in ("--share-file", path)]


async def test_without_a_seal_there_is_nothing_to_seal(tmp_path: Path) -> None:
    plain = Sealed.found(tmp_path, system_clock, seal=None)
    assert plain.shares == ()
    async with opened(plain.configuration) as server:
        await server.start()
        root = StateFolder(plain.configuration.state_dir).root.read_bytes()
        async with open_anonymous_channel(f"127.0.0.1:{server.ports[1]}", root) as channel:
            stub = seal_pb2_grpc.SealServiceStub(channel)
            status = await stub.GetSealStatus(seal_pb2.GetSealStatusRequest(), timeout=10)
            with pytest.raises(AuthenticationError, match="CERTIFICATE_REQUIRED"):
                await call(
                    stub.Seal,
                    seal_pb2.SealRequest(reason="x", request_id=new_id()),
                    deadline_s=10,
                )
        await server.stop(0.2)
    assert status.status.state == seal_pb2.SEAL_STATE_NOT_CONFIGURED


async def test_the_state_folder_must_be_sealed_where_the_configuration_says_so(
    tmp_path: Path,
) -> None:
    Sealed.found(tmp_path, system_clock, seal=None)
    with pytest.raises(ConfigurationError, match="NOT_SEALED"):
        await serve(sealed_configuration(tmp_path))
