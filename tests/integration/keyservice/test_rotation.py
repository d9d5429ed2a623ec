"""A change of authorities over the wire, while members call and nobody is refused."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from finsecure.keyservice.v1 import (
    approvals_pb2,
    approvals_pb2_grpc,
    encryption_keys_pb2,
    encryption_keys_pb2_grpc,
)
from finsecure.keyservice.v1 import authorities_pb2 as authorities
from finsecure.keyservice.v1 import authorities_pb2_grpc as authorities_grpc
from finsecure.keyservice.v1 import certificates_pb2 as certificates
from finsecure.keyservice.v1 import certificates_pb2_grpc as certificates_grpc
from finsecure_crypto.errors import AuthenticationError, PermissionDeniedError, StateError
from finsecure_crypto.intermediate import certify_request
from finsecure_rpc.connection import Connection
from finsecure_rpc.identity_store import Identity, IdentityStore
from finsecure_rpc.renewal import Renewer
from finsecure_rpc.revocation import RevocationWatcher

from tests.support import encryption_keys
from tests.support.keyservice_deployment import BANK, LENDING, Deployment, deployed, new_id

MINUTES = 3
"""Life of a revocation list here. The clock of the service is set forward instead of waiting, but
not by more than the ten minutes by which machines may differ."""


@pytest.fixture
async def keyservice(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Deployment]:
    monkeypatch.setattr("finsecure_keyservice.serving._TICK_S", 0.2)
    limits = {"enrolment_calls_per_s": 1000, "member_calls_per_s": 10_000}
    async with deployed(
        tmp_path, revocation_list_lifetime_h=MINUTES / 60, limits=limits, database=database
    ) as deployment:
        yield deployment


async def step(caller: Connection, method: str, **fields: object) -> authorities.Authority:
    request = getattr(authorities, f"{method}Request")(request_id=new_id(), **fields)
    stub = caller.stub(authorities_grpc.AuthorityServiceStub)
    return (await caller.call(getattr(stub, method), request)).authority


async def listed(caller: Connection) -> dict[str, authorities.Authority]:
    stub = caller.stub(authorities_grpc.AuthorityServiceStub)
    answer = await caller.call(stub.ListAuthorities, authorities.ListAuthoritiesRequest())
    return {item.name: item for item in answer.authorities}


def sign(keyservice: Deployment, csr: bytes) -> bytes:
    """What happens on the machine that has the root's key."""
    root = x509.load_pem_x509_certificate(keyservice.root_pem)
    key = load_pem_private_key(keyservice.founded.root_key.read_bytes(), None)
    made = certify_request(csr, root, key, datetime.now(UTC), timedelta(days=30))
    return made.public_bytes(Encoding.DER)


async def advance(keyservice: Deployment) -> None:
    """Let the life of a list go by, in steps within which the next list is made in time."""
    for _ in range(2):
        before = await list_end(keyservice)
        keyservice.clock.skew += timedelta(minutes=MINUTES) * 0.55
        async with asyncio.timeout(60):
            while await list_end(keyservice) < before + timedelta(minutes=1):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def list_end(keyservice: Deployment) -> datetime:
    stub = keyservice.operator.stub(certificates_grpc.CertificateServiceStub)
    answer = await keyservice.operator.call(
        stub.GetRevocationList, certificates.GetRevocationListRequest()
    )
    end = x509.load_der_x509_crl(answer.crl).next_update_utc
    assert end is not None
    return end


class Traffic:
    """A member that calls again and again, and follows authorities and certificates."""

    def __init__(self, keyservice: Deployment, store: IdentityStore) -> None:
        self.store = store
        self.connection = keyservice.connect(store)
        self.calls = 0
        self.watcher = RevocationWatcher(
            self.connection, lambda: store.current().anchors, identities=store
        )
        self.renewer = Renewer(store, self.connection, tainted=self.watcher.tainted)

    async def run(self, until: asyncio.Event) -> None:
        await self.watcher.start()
        self.renewer.start()
        try:
            while not until.is_set():
                stub = self.connection.stub(certificates_grpc.CertificateServiceStub)
                request = certificates.GetRevocationListRequest()
                await self.connection.call(stub.GetRevocationList, request)
                self.calls += 1
                await asyncio.sleep(0.02)
        finally:
            await self.renewer.stop()
            await self.watcher.stop()

    def issuer(self) -> str:
        return self.store.current().certified.issuer.hex()


async def eventually(condition, deadline_s: float = 60) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110  # what is awaited is in files
            await asyncio.sleep(0.05)


async def test_a_whole_rotation_under_traffic_refuses_no_call(
    keyservice: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finsecure_rpc.renewal._LONGEST_SLEEP_S", 0.1)
    monkeypatch.setattr("finsecure_rpc.renewal._SPREAD_S", 0.5)
    carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")
    store = await keyservice.enrol(BANK, await keyservice.create(BANK))
    bank, over = Traffic(keyservice, store), asyncio.Event()
    running = asyncio.create_task(bank.run(over))
    (first,) = await listed(carol)

    prepared = await step(keyservice.operator, "PrepareAuthority")
    second = prepared.name
    certificate = sign(keyservice, prepared.csr)
    await step(keyservice.operator, "InstallAuthority", name=second, certificate=certificate)
    await eventually(lambda: len(store.current().anchors.key_ids) == 2)
    with pytest.raises(StateError, match="AUTHORITY_NOT_PROPAGATED"):
        await step(keyservice.operator, "ActivateAuthority", name=second)
    await advance(keyservice)
    await step(keyservice.operator, "ActivateAuthority", name=second)
    assert bank.issuer() == first.rpartition("/")[2]

    await step(keyservice.operator, "TaintAuthority", name=first, reason="rotation")
    await eventually(lambda: bank.issuer() == second.rpartition("/")[2])
    for person in ("alice", "officers/carol", "officers/dave"):
        theirs = IdentityStore(keyservice.folder / "members" / person)
        await Renewer(theirs, keyservice.connect(theirs)).renew_now()
    with pytest.raises(StateError, match="APPROVAL_REQUIRED") as required:
        await step(carol, "RevokeAuthority", name=first, reason="rotation")
    proposal = required.value.message.partition("approve ")[2][:16]
    await dave.call(
        dave.stub(approvals_pb2_grpc.ApprovalServiceStub).ApproveProposal,
        approvals_pb2.ApproveProposalRequest(name=f"proposals/{proposal}", request_id=new_id()),
    )
    # Not yet: a renewal settles only after the life of a list. The approval stays good meanwhile.
    with pytest.raises(StateError, match="AUTHORITY_NEEDED"):
        await step(carol, "RevokeAuthority", name=first, reason="rotation")
    await advance(keyservice)
    await eventually_not_needed(carol, first)
    done = await step(carol, "RevokeAuthority", name=first, reason="rotation")
    assert done.state == authorities.AUTHORITY_STATE_REVOKED
    await eventually(lambda: len(store.current().anchors.key_ids) == 1)
    made = bank.calls
    await eventually(lambda: bank.calls > made + 3)
    over.set()
    await running  # raises if any call was refused
    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):  # an approval is used up
        await step(carol, "RevokeAuthority", name=first, reason="rotation")


async def eventually_not_needed(caller: Connection, name: str) -> None:
    """The key service renews its own certificates by itself, at its next look."""
    async with asyncio.timeout(60):
        while (await listed(caller))[name].dependents:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def test_force_needs_two_officers_and_an_operator_has_no_say(keyservice: Deployment) -> None:
    carol = await keyservice.officer("carol")
    prepared = await step(keyservice.operator, "PrepareAuthority")
    name, certificate = prepared.name, sign(keyservice, prepared.csr)
    await step(keyservice.operator, "InstallAuthority", name=name, certificate=certificate)
    with pytest.raises(PermissionDeniedError, match="ROLE_NOT_ALLOWED"):
        await step(keyservice.operator, "ActivateAuthority", name=name, force=True)
    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
        await step(carol, "ActivateAuthority", name=name, force=True)
    assert (await listed(carol))[name].state == authorities.AUTHORITY_STATE_PREPARED


async def test_who_has_a_certificate_of_a_revoked_authority_is_out_also_on_open_streams(
    keyservice: Deployment,
) -> None:
    carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")
    bank = await keyservice.member(BANK)
    (first,) = await listed(carol)
    watch = bank.stream(
        bank.stub(certificates_grpc.CertificateServiceStub).WatchRevocationList,
        certificates.WatchRevocationListRequest(),
        deadline_s=120,
    )
    await anext(watch)
    prepared = await step(keyservice.operator, "PrepareAuthority")
    second, certificate = prepared.name, sign(keyservice, prepared.csr)
    await step(keyservice.operator, "InstallAuthority", name=second, certificate=certificate)
    await advance(keyservice)
    await step(keyservice.operator, "ActivateAuthority", name=second)
    await step(keyservice.operator, "TaintAuthority", name=first, reason="stolen")
    for person in ("carol", "dave"):
        theirs = IdentityStore(keyservice.folder / "members" / "officers" / person)
        await Renewer(theirs, keyservice.connect(theirs)).renew_now()
    fields = {"name": first, "reason": "stolen", "force": True}
    with pytest.raises(StateError, match="APPROVAL_REQUIRED") as required:
        await step(carol, "RevokeAuthority", **fields)
    proposal = required.value.message.partition("approve ")[2][:16]
    await dave.call(
        dave.stub(approvals_pb2_grpc.ApprovalServiceStub).ApproveProposal,
        approvals_pb2.ApproveProposalRequest(name=f"proposals/{proposal}", request_id=new_id()),
    )
    await step(carol, "RevokeAuthority", **fields)
    stub = bank.stub(certificates_grpc.CertificateServiceStub)
    with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
        await bank.call(stub.GetRevocationList, certificates.GetRevocationListRequest())
    with pytest.raises(AuthenticationError, match=r"CERTIFICATE_(UNTRUSTED|REVOKED)"):
        await asyncio.wait_for(drain(watch), 60)


async def drain(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass


async def test_an_authority_stays_while_a_key_in_use_is_endorsed_under_it(
    keyservice: Deployment,
) -> None:
    carol = await keyservice.officer("carol")
    signers = await encryption_keys.trustees(keyservice)
    await encryption_keys.register(keyservice.operator, encryption_keys.registration(signers))
    (first,) = await listed(carol)
    before = (await listed(carol))[first].dependents
    prepared = await step(keyservice.operator, "PrepareAuthority")
    second, certificate = prepared.name, sign(keyservice, prepared.csr)
    await step(keyservice.operator, "InstallAuthority", name=second, certificate=certificate)
    await advance(keyservice)
    await step(keyservice.operator, "ActivateAuthority", name=second)
    await step(keyservice.operator, "TaintAuthority", name=first, reason="drill")
    stub = keyservice.operator.stub(encryption_keys_pb2_grpc.EncryptionKeyServiceStub)

    async def endorse(signers: list[Identity]) -> None:
        endorsements = encryption_keys.registration(signers).encryption_key.endorsements
        request = encryption_keys_pb2.RenewEndorsementsRequest(
            name=encryption_keys.NAME, endorsements=endorsements, request_id=new_id()
        )
        await keyservice.operator.call(stub.RenewEndorsements, request)

    with pytest.raises(StateError, match="ENDORSEMENT_TAINTED"):
        await endorse(signers)
    stores = [
        IdentityStore(keyservice.folder / "members" / LENDING / "trustees" / name)
        for name in encryption_keys.TRUSTEES
    ]
    for store in stores:
        await Renewer(store, keyservice.connect(store)).renew_now()
    held_back = (await listed(carol))[first].dependents
    await endorse([store.current() for store in stores])
    assert (await listed(carol))[first].dependents == held_back - 1
    assert before > 0
