"""The key service as a real process: killed at the worst moment, and what it writes to its log."""

import asyncio
import base64
import re
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
from cryptography import x509
from finsecure.keyservice.v1 import certificates_pb2 as certificates
from finsecure.keyservice.v1 import certificates_pb2_grpc as certificates_grpc
from finsecure.keyservice.v1 import join_tokens_pb2 as join_tokens
from finsecure.keyservice.v1 import join_tokens_pb2_grpc as join_tokens_grpc
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import LogVerifier
from finsecure_crypto.errors import AuthenticationError, UnavailableError
from finsecure_crypto.log_export import verify_export
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.audit.trail import Unrecorded
from finsecure_keyservice.authorities import Authorities
from finsecure_keyservice.authority_store import AuthorityStore
from finsecure_keyservice.protection.settings import FileProtection
from finsecure_keyservice.schema import CERTIFICATES
from finsecure_keyservice.state import StateFolder
from finsecure_rpc.admission import JoinAs
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.call import call
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.connection import Connection
from finsecure_rpc.database import open_database
from finsecure_rpc.enrolment import enrol
from finsecure_rpc.identity_store import Identity, IdentityStore
from finsecure_rpc.log_memory import LogMemory
from finsecure_rpc.renewal import Renewer
from finsecure_rpc.requests import new_keys
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select

from tests.support.keyservice_deployment import BANK, new_id
from tests.support.keyservice_process import Process
from tests.support.postgresql import dump

T = TypeVar("T")


@pytest.fixture
def process(tmp_path: Path, database: str) -> Iterator[Process]:
    process = Process(tmp_path, database)
    process.printed = process.command(
        *("init", "--config", str(process.config)),
        *("--operator", "alice", "--federation", "lending"),
    )
    process.start()
    yield process
    if process.process is not None and process.process.poll() is None:
        process.stop(signal.SIGKILL)


async def _operator(process: Process) -> Connection:
    key = (process.folder / "state" / "operator-alice.api-key").read_bytes().strip()
    await process.ready()
    folder = process.folder / "alice"
    await enrol(process.enrol_address, process.root_pem, SecretBytes(key), folder)
    return process.connect(IdentityStore(folder))


async def test_death_between_commit_and_reply_is_harmless(process: Process) -> None:
    async with await _operator(process) as operator:
        create = members.CreateMemberRequest(member=members.Member(name=BANK), request_id=new_id())
        key = (
            await operator.call(operator.stub(members_grpc.MemberServiceStub).CreateMember, create)
        ).api_key
        keys = new_keys()
        request = certificates.EnrolRequest(
            api_key=key, tls_csr=keys.tls_csr, signing_csr=keys.signing_csr
        )

        async def attempt() -> certificates.EnrolResponse:
            async with open_anonymous_channel(process.enrol_address, process.root_pem) as channel:
                stub = certificates_grpc.EnrolmentServiceStub(channel)
                return await call(stub.Enrol, request, deadline_s=5)

        # Enrolment: committed, not answered.
        process.marker.touch()
        with pytest.raises(UnavailableError):
            await attempt()
        process.wait_for_death()
        issued = _issued(process, BANK)
        assert len(issued) == 2
        process.start()
        await process.ready()
        response = await attempt()
        answered = response.certificates
        assert {answered.tls_certificate, answered.signing_certificate} == issued
        assert _issued(process, BANK) == issued

        # Revocation: committed, not answered; after the restart nobody has forgotten it.
        revoke = members.RevokeMemberRequest(name=BANK, reason="left", request_id=new_id())
        process.marker.touch()
        with pytest.raises(UnavailableError):
            await operator.call(
                operator.stub(members_grpc.MemberServiceStub).RevokeMember, revoke, deadline_s=5
            )
        process.wait_for_death()
        process.start()
        await process.ready()
        stub = operator.stub(members_grpc.MemberServiceStub)
        answer = await operator.call(stub.RevokeMember, revoke, wait_for_ready=True)
        assert answer.member.state == members.MEMBER_STATE_REVOKED
        crl = await operator.call(
            operator.stub(certificates_grpc.CertificateServiceStub).GetRevocationList,
            certificates.GetRevocationListRequest(),
        )
        assert _revoked(crl.crl) == 2
    assert process.stop() == 0


async def test_a_join_that_was_not_answered_is_one_use_after_the_restart(
    process: Process,
) -> None:
    async with await _operator(process) as operator:
        stub = operator.stub(join_tokens_grpc.JoinTokenServiceStub)
        create = join_tokens.CreateJoinTokenRequest(
            parent="federations/lending",
            role=members.MEMBER_ROLE_CLIENT,
            id_prefix="branch-",
            maximum_uses=2,
            lifetime=Duration(seconds=3600),
            request_id=new_id(),
        )
        token = SecretBytes((await operator.call(stub.CreateJoinToken, create)).text.encode())

        async def join(member_id: str) -> Identity:
            folder = process.folder / member_id
            return await enrol(
                process.enrol_address, process.root_pem, JoinAs(token, member_id), folder
            )

        process.marker.touch()
        with pytest.raises(UnavailableError):
            await join("branch-1")
        process.wait_for_death()
        issued = _issued(process, "federations/lending/clients/branch-1")
        assert len(issued) == 2
        process.start()
        await process.ready()
        identity = await join("branch-1")
        assert identity.signing_certificate in issued
        await join("branch-2")
        with pytest.raises(AuthenticationError, match="JOIN_TOKEN_SPENT"):
            await join("branch-3")
        listed = await operator.call(
            stub.ListJoinTokens, join_tokens.ListJoinTokensRequest(parent="federations/lending")
        )
        assert [item.uses for item in listed.join_tokens] == [2]
    assert process.stop() == 0
    assert token.expose() not in process.log.read_bytes()


@pytest.mark.slow
async def test_a_full_disk_decides_nothing_says_so_and_goes_on(tmp_path: Path) -> None:
    process = Process(tmp_path, str(tmp_path / "keyservice.db"))
    # It looks every two seconds whether the log can be written.
    text = process.config.read_text().replace("DEBUG", "ERROR")
    process.config.write_text(
        f'revocation_list_lifetime_h = {16 / 3600}\naudit_file = "audit.jsonl"\n{text}'
    )
    printed = process.command("init", "--config", str(process.config), "--operator", "alice")
    (key,) = re.findall(r"audit log's key +(\S+)", printed)
    process.start()
    try:
        async with await _operator(process) as operator:
            stub = operator.stub(members_grpc.MemberServiceStub)
            create = members.CreateMemberRequest(
                member=members.Member(name="viewers/eve"), request_id=new_id()
            )
            _let_files_grow(process, most=0)
            with pytest.raises(UnavailableError, match="STORE_UNAVAILABLE"):
                await operator.call(stub.CreateMember, create)
            await _until(process, health_pb2.HealthCheckResponse.NOT_SERVING)
            _let_files_grow(process, most=resource.RLIM_INFINITY)
            await _until(process, health_pb2.HealthCheckResponse.SERVING)
            await operator.call(stub.CreateMember, create)
            follower = LogFollower(operator, LogMemory(process.folder / "memory"))
            events = [Event.parse(leaf) async for leaf in follower.events()]
            made = [event for event in events if event.request == create.request_id]
            assert [event.action for event in made] == ["member.create", "api-key.issue"]
        assert process.stop() == 0
        with (tmp_path / "audit.jsonl").open("rb") as lines:
            assert verify_export(lines, LogVerifier.parse(key)).size >= len(events)
    finally:
        if process.process is not None and process.process.poll() is None:
            process.stop(signal.SIGKILL)


def _let_files_grow(process: Process, most: int) -> None:
    """Let the process write to files up to a size: none, as on a full disk, or any."""
    assert process.process is not None
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (most, hard))


async def _until(process: Process, status: int) -> None:
    async with open_anonymous_channel(process.enrol_address, process.root_pem) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async with asyncio.timeout(120):
            while True:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
                if answer.status == status:
                    return
                await asyncio.sleep(0.1)


async def test_nothing_secret_is_written_anywhere_but_where_it_belongs(process: Process) -> None:
    secrets: dict[str, bytes] = {}
    async with await _operator(process) as operator:
        first = (process.folder / "state" / "operator-alice.api-key").read_bytes().strip()
        stub = operator.stub(members_grpc.MemberServiceStub)
        created = await operator.call(
            stub.CreateMember,
            members.CreateMemberRequest(member=members.Member(name=BANK), request_id=new_id()),
        )
        again = await operator.call(
            stub.IssueApiKey, members.IssueApiKeyRequest(name=BANK, request_id=new_id())
        )
        folder = process.folder / "bank"
        for wrong in (created.api_key, again.api_key[:-1] + "x"):  # a void key, a typing error
            with pytest.raises(AuthenticationError) as caught:
                await enrol(
                    process.enrol_address, process.root_pem, SecretBytes(wrong.encode()), folder
                )
            assert wrong not in str(caught.value)
        right = SecretBytes(again.api_key.encode())
        await enrol(process.enrol_address, process.root_pem, right, folder)
        async with process.connect(IdentityStore(folder)) as bank:
            await Renewer(IdentityStore(folder), bank).renew_now()
        with pytest.raises(grpc.aio.AioRpcError):  # a call that is refused is logged too
            await operator.channel().unary_unary("/x/y")(b"", timeout=5)
    assert process.stop() == 0
    for number, text in enumerate((first, created.api_key.encode(), again.api_key.encode())):
        secrets[f"API key {number}"] = text.split(b"_", 2)[2][:43]
    state = process.folder / "state"
    vault, material = StateFolder(state).open(
        FileProtection(kind="file", key_file=state / "key-encryption.key")
    )
    pepper = material.pepper.expose()
    (kek_line,) = (state / "key-encryption.key").read_bytes().splitlines()
    authority = _in_database(
        process,
        lambda connection: Authorities(material.root, vault).active(
            AuthorityStore(connection, Unrecorded())
        ),
    )
    private = authority.key.private_numbers().private_value.to_bytes(32, "big")
    secrets |= {
        "key-encryption key": kek_line.split()[1],
        "key-encryption key, raw": bytes.fromhex(kek_line.split()[1].decode()),
        "authority key": private,
        "pepper": pepper,
        "pepper in hexadecimal": pepper.hex().encode(),
        "pepper in base64": base64.b64encode(pepper).rstrip(b"="),
    }
    for path in (state / "root.key", *(state / "identity").rglob("*.key")):
        body = b"".join(path.read_bytes().splitlines()[1:-1])
        secrets[str(path)] = body[40:104] or body[20:]
    assert len(secrets) >= 9
    secrets |= {f"{what}, in hexadecimal": each.hex().encode() for what, each in secrets.items()}
    database = b"".join(path.read_bytes() for path in process.folder.glob("keyservice.db*"))
    if "://" in process.database:
        database = dump(process.database)
    written = {
        "log": process.log.read_bytes(),
        "terminal": process.printed.encode(),
        "database": database,
    }
    assert b"enrolled" in written["log"]
    assert b"API_KEY_REJECTED" in written["log"]
    assert BANK.encode() in database
    for where, content in written.items():
        assert b"PRIVATE KEY" not in content
        assert not re.search(rb"fsj?_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", content)
        for what, secret in secrets.items():
            assert secret not in content, f"{what} is in the {where}"


async def test_health_says_whether_the_process_serves(process: Process) -> None:
    await process.ready()
    assert process.command("health", "--config", str(process.config)) == ""
    assert process.stop() == 0
    with pytest.raises(subprocess.CalledProcessError) as caught:
        process.command("health", "--config", str(process.config))
    assert caught.value.returncode == 5
    assert caught.value.stderr.startswith("error: ")
    assert "SERVICE_UNREACHABLE" in caught.value.stderr


async def test_a_sealed_detail_is_confirmed_by_who_has_the_key(process: Process) -> None:
    async with await _operator(process) as operator:
        stub = operator.stub(members_grpc.MemberServiceStub)
        create = members.CreateMemberRequest(member=members.Member(name=BANK), request_id=new_id())
        await operator.call(stub.CreateMember, create)
        await operator.call(
            stub.RevokeMember,
            members.RevokeMemberRequest(name=BANK, reason="left in anger", request_id=new_id()),
        )
        follower = LogFollower(operator, LogMemory(process.folder / "memory"))
        events = [Event.parse(leaf) async for leaf in follower.events()]
    (revoked,) = (event for event in events if event.action == "member.revoke")
    arguments = ("sealed", "--config", str(process.config), "--detail", "reason")
    assert process.command(*arguments, typed="left in anger\n").strip() == revoked.details["reason"]
    assert process.command(*arguments, typed="left").strip() != revoked.details["reason"]


async def test_an_operator_who_is_locked_out_gets_back_in(process: Process) -> None:
    await process.ready()
    target = process.folder / "new.api-key"
    process.command(
        *("operator-key", "--config", str(process.config)),
        *("--operator", "alice", "--output", str(target)),
    )
    assert target.stat().st_mode & 0o777 == 0o600
    old = (process.folder / "state" / "operator-alice.api-key").read_bytes().strip()
    with pytest.raises(AuthenticationError, match="API_KEY_REJECTED"):
        await enrol(process.enrol_address, process.root_pem, SecretBytes(old), process.folder / "x")
    new = SecretBytes(target.read_bytes().strip())
    identity = await enrol(process.enrol_address, process.root_pem, new, process.folder / "y")
    assert str(identity.spiffe_id) == "spiffe://finsecure.test/operator/alice"


def _issued(process: Process, member: str) -> set[bytes]:
    query = select(CERTIFICATES.c.der).where(CERTIFICATES.c.member == member)
    return _in_database(process, lambda connection: set(connection.scalars(query)))


def _in_database(process: Process, read: Callable[[SqlConnection], T]) -> T:
    url = process.database
    database = open_database(url if "://" in url else f"sqlite:///{url}")
    found = database.run_sync(read)
    database.close()
    return found


def _revoked(crl: bytes) -> int:
    return len(x509.load_der_x509_crl(crl))
