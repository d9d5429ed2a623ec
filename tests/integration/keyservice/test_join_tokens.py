"""Join tokens over the wire: races, rates, revocation, and what a member makes of the answer."""

import asyncio
from pathlib import Path

import pytest
from finsecure.keyservice.v1 import certificates_pb2 as certificates
from finsecure.keyservice.v1 import certificates_pb2_grpc as certificates_grpc
from finsecure.keyservice.v1 import join_tokens_pb2 as pb
from finsecure.keyservice.v1 import join_tokens_pb2_grpc as grpc_services
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure_crypto.audit_event import Event
from finsecure_crypto.certificates import RevocationList
from finsecure_crypto.errors import (
    AuthenticationError,
    ConflictError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.pepper_rotation import rotate_pepper
from finsecure_rpc.admission import JoinAs
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.call import call
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.enrolment import enrol
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.log_memory import LogMemory
from finsecure_rpc.requests import new_keys
from google.protobuf.duration_pb2 import Duration

from tests.support.keyservice_deployment import LENDING, Deployment, deployed, new_id


def _wanted(**changed: object) -> pb.CreateJoinTokenRequest:
    fields: dict[str, object] = {
        "parent": LENDING,
        "role": members.MEMBER_ROLE_CLIENT,
        "id_prefix": "branch-",
        "maximum_uses": 3,
        "lifetime": Duration(seconds=3600),
        "request_id": new_id(),
        **changed,
    }
    return pb.CreateJoinTokenRequest(**fields)  # type: ignore[arg-type]


async def _create(
    keyservice: Deployment, request: pb.CreateJoinTokenRequest
) -> pb.CreateJoinTokenResponse:
    operator = keyservice.operator
    stub = operator.stub(grpc_services.JoinTokenServiceStub)
    response: pb.CreateJoinTokenResponse = await operator.call(stub.CreateJoinToken, request)
    return response


async def _uses(keyservice: Deployment, token: str) -> list[str]:
    operator = keyservice.operator
    stub = operator.stub(grpc_services.JoinTokenServiceStub)
    found: list[str] = []
    page = ""
    while True:
        response = await operator.call(
            stub.ListJoinTokenUses,
            pb.ListJoinTokenUsesRequest(parent=token, page_size=2, page_token=page),
        )
        found += [use.member for use in response.uses]
        page = response.next_page_token
        if not page:
            return found


def _request(token: str, member_id: str) -> certificates.JoinRequest:
    keys = new_keys()
    return certificates.JoinRequest(
        join_token=token, member_id=member_id, tls_csr=keys.tls_csr, signing_csr=keys.signing_csr
    )


async def _join(
    keyservice: Deployment, request: certificates.JoinRequest
) -> certificates.JoinResponse:
    async with open_anonymous_channel(keyservice.enrol_address, keyservice.root_pem) as channel:
        stub = certificates_grpc.EnrolmentServiceStub(channel)
        response: certificates.JoinResponse = await call(stub.Join, request, deadline_s=30)
        return response


async def _member(keyservice: Deployment, token: str, member_id: str) -> IdentityStore:
    folder = keyservice.folder / "members" / member_id
    admission = JoinAs(SecretBytes(token.encode()), member_id)
    await enrol(keyservice.enrol_address, keyservice.root_pem, admission, folder)
    return IdentityStore(folder)


async def test_uses_are_counted_exactly_when_many_come_at_once(keyservice: Deployment) -> None:
    made = await _create(keyservice, _wanted())
    requests = [_request(made.text, f"branch-{number}") for number in range(6)]
    twice = requests + requests  # each repeats itself, as after a lost reply
    outcomes = await asyncio.gather(
        *(_join(keyservice, request) for request in twice), return_exceptions=True
    )
    let_in = {
        outcome.member.name: outcome
        for outcome in outcomes
        if isinstance(outcome, certificates.JoinResponse)
    }
    assert len(let_in) == 3
    for number, outcome in enumerate(outcomes):
        name = f"{LENDING}/clients/branch-{number % 6}"
        if name in let_in:
            assert outcome == let_in[name]
        else:
            assert isinstance(outcome, AuthenticationError)
            assert outcome.code == "JOIN_TOKEN_SPENT"
    assert sorted(await _uses(keyservice, made.join_token.name)) == sorted(let_in)


async def test_of_two_who_race_for_one_id_one_wins(keyservice: Deployment) -> None:
    made = await _create(keyservice, _wanted())
    outcomes = await asyncio.gather(
        *(_join(keyservice, _request(made.text, "branch-1")) for _ in range(4)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, ConflictError)]
    assert [error.code for error in refused] == ["JOIN_ID_TAKEN"] * 3
    assert await _uses(keyservice, made.join_token.name) == [f"{LENDING}/clients/branch-1"]


async def test_the_text_is_shown_once_and_its_request_is_bounded(keyservice: Deployment) -> None:
    request = _wanted()
    made = await _create(keyservice, request)
    assert made.text.startswith("fsj_")
    again = await _create(keyservice, request)
    assert (again.text, again.join_token) == ("", made.join_token)
    for changed, code in (
        ({"role": members.MEMBER_ROLE_TRUSTEE}, "JOIN_ROLE_REFUSED"),
        ({"role": members.MEMBER_ROLE_OPERATOR}, "JOIN_ROLE_REFUSED"),
        ({"role": members.MEMBER_ROLE_UNSPECIFIED}, "ROLE_MISSING"),
        ({"lifetime": Duration(seconds=2**62)}, "JOIN_LIFETIME_REFUSED"),
        ({"lifetime": Duration(seconds=-5)}, "JOIN_LIFETIME_REFUSED"),
        ({"lifetime": None}, "INVALID_MESSAGE"),
        ({"maximum_uses": 0}, "INVALID_MESSAGE"),
        ({"maximum_uses": 1001}, "INVALID_MESSAGE"),
        ({"id_prefix": ""}, "INVALID_MESSAGE"),
        ({"id_prefix": "../"}, "INVALID_MESSAGE"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            await _create(keyservice, _wanted(**changed))
        assert caught.value.code == code, changed


async def test_who_came_works_and_a_leak_is_answered_by_one_call(keyservice: Deployment) -> None:
    made = await _create(keyservice, _wanted())
    kept = keyservice.connect(
        await _member(keyservice, (await _create(keyservice, _wanted())).text, "branch-9")
    )
    stores = [await _member(keyservice, made.text, f"branch-{number}") for number in (1, 2)]
    connections = [keyservice.connect(store) for store in stores]
    ask = certificates.GetRevocationListRequest()
    for connection in connections:
        stub = connection.stub(certificates_grpc.CertificateServiceStub)
        await connection.call(stub.GetRevocationList, ask)
    operator = keyservice.operator
    stub = operator.stub(grpc_services.JoinTokenServiceStub)
    gone = await operator.call(
        stub.RevokeJoinToken,
        pb.RevokeJoinTokenRequest(
            name=made.join_token.name, reason="leak", revoke_members=True, request_id=new_id()
        ),
    )
    names = [f"{LENDING}/clients/branch-{number}" for number in (1, 2)]
    assert list(gone.revoked_members) == names
    assert gone.join_token.state == pb.JOIN_TOKEN_STATE_REVOKED
    with pytest.raises(AuthenticationError, match="JOIN_TOKEN_REJECTED"):
        await _join(keyservice, _request(made.text, "branch-3"))
    for connection in connections:
        stub = connection.stub(certificates_grpc.CertificateServiceStub)
        with pytest.raises(AuthenticationError, match="CERTIFICATE_REVOKED"):
            await connection.call(stub.GetRevocationList, ask)
    answer = await kept.call(
        kept.stub(certificates_grpc.CertificateServiceStub).GetRevocationList, ask
    )
    anchors = stores[0].current().anchors
    listed = RevocationList.parse(answer.crl, anchors, keyservice.clock())
    assert {store.current().certified.serial for store in stores} <= listed.serials
    # The log says who came by which token, and who was put out.
    follower = LogFollower(operator, LogMemory(keyservice.folder / "memory"))
    events = [Event.parse(leaf) async for leaf in follower.events()]
    came = [
        event.subject
        for event in events
        if event.action == "member.join" and event.details["token"] == made.join_token.name
    ]
    assert came == names
    assert [event.subject for event in events if event.action == "member.revoke"] == names


async def test_enrolment_rates_bound_how_fast_a_token_is_used(tmp_path: Path) -> None:
    async with deployed(tmp_path, limits={"enrolment_calls_per_s": 0.5}) as keyservice:
        token = (await _create(keyservice, _wanted(maximum_uses=1000))).text
        outcomes = await asyncio.gather(
            *(_join(keyservice, _request(token, f"branch-{number}")) for number in range(6)),
            return_exceptions=True,
        )
        assert any(isinstance(outcome, ResourceExhaustedError) for outcome in outcomes)


async def test_a_new_pepper_ends_every_token(keyservice: Deployment) -> None:
    made = await _create(keyservice, _wanted())
    request = _request(made.text, "branch-1")
    await _join(keyservice, request)
    assert rotate_pepper(keyservice.configuration, keyservice.clock()) == (0, 1)
    for again in (request, _request(made.text, "branch-2")):
        with pytest.raises(AuthenticationError, match="JOIN_TOKEN_REJECTED"):
            await _join(keyservice, again)
    operator = keyservice.operator
    stub = operator.stub(grpc_services.JoinTokenServiceStub)
    listed = await operator.call(stub.ListJoinTokens, pb.ListJoinTokensRequest(parent=LENDING))
    assert [item.state for item in listed.join_tokens] == [pb.JOIN_TOKEN_STATE_REVOKED]
