"""Every check that stands before a handler, over real TLS on loopback."""

import asyncio
from datetime import timedelta

import grpc
import pytest
from finsecure.aggregation.v1 import (
    models_pb2,
    models_pb2_grpc,
    participation_pb2,
    participation_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)
from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import (
    AuthenticationError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StateError,
    UnavailableError,
)
from finsecure_rpc.call import call
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.connection import Connection
from finsecure_rpc.policy import Limits, Rate
from finsecure_rpc.status import InvalidMessageError, RateExceededError
from google.rpc import error_details_pb2, status_pb2

from tests.support.pki import TestAuthority, utc_now

Participation = participation_pb2_grpc.ParticipationServiceStub
Models = models_pb2_grpc.ModelServiceStub
Status = participation_pb2.GetUploadStatusRequest
Watch = participation_pb2.WatchRequest
WATCH = "/finsecure.aggregation.v1.ParticipationService/Watch"


async def status(connection, round_="r", **options):
    stub = connection.stub(Participation)
    return await connection.call(stub.GetUploadStatus, Status(round=round_), **options)


async def test_a_member_with_the_right_role_is_served(toy):
    assert (await status(toy.connect())).committed_bytes == 7


async def test_another_role_is_refused(toy):
    with pytest.raises(PermissionDeniedError) as caught:
        await status(toy.connect(toy.store("operator", "alice")))
    assert caught.value.code == "ROLE_NOT_ALLOWED"


async def send_bytes(connection, raw, method="GetUploadStatus"):
    path = f"/finsecure.aggregation.v1.ParticipationService/{method}"
    channel = connection.channel()
    if method == "Watch":
        call = channel.unary_stream(path, bytes, bytes)
        return [answer async for answer in connection.stream(call, raw, deadline_s=10)]
    if method == "SubmitInput":
        return await connection.call(channel.stream_unary(path, bytes, bytes), iter([raw]))
    return await connection.call(channel.unary_unary(path, bytes, bytes), raw)


@pytest.mark.parametrize("method", ["GetUploadStatus", "Watch", "SubmitInput"])
@pytest.mark.parametrize("raw", [b"\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe"])
async def test_bytes_that_are_no_message_are_the_callers_fault(toy, method, raw):
    with pytest.raises(InvalidArgumentError) as caught:
        await send_bytes(toy.connect(), raw, method)
    assert caught.value.code == "MESSAGE_UNREADABLE"


async def test_who_may_not_call_gets_nothing_parsed(toy):
    with pytest.raises(PermissionDeniedError) as caught:
        await send_bytes(toy.connect(toy.store("operator", "alice")), b"\xff\xff")
    assert caught.value.code == "ROLE_NOT_ALLOWED"


async def test_a_method_without_policy_is_refused_for_everyone(toy):
    # AdvertiseKeys is served but declared nowhere.
    advertisement = participation_pb2.KeyAdvertisement(
        client="bank-a",
        channel_key=bytes(32),
        mask_key=bytes(32),
        signature=bytes(64),
        certificate=b"x",
    )
    message = participation_pb2.AdvertiseKeysRequest(round="r", advertisement=advertisement)
    for store in (toy.store(), toy.store("operator", "alice")):
        connection = toy.connect(store)
        with pytest.raises(PermissionDeniedError) as caught:
            await connection.call(connection.stub(Participation).AdvertiseKeys, message)
        assert caught.value.code == "ROLE_NOT_ALLOWED"


async def test_a_member_of_another_federation_is_refused(toy):
    with pytest.raises(PermissionDeniedError) as caught:
        await status(toy.connect(toy.store(federation="cards")))
    assert caught.value.code == "TRUST_DOMAIN_REFUSED"


async def test_a_service_that_is_not_there_is_a_state_error(toy):
    connection = toy.connect()
    stub = connection.stub(tasks_pb2_grpc.TaskServiceStub)
    with pytest.raises(StateError) as caught:
        await connection.call(stub.GetTask, tasks_pb2.GetTaskRequest(name="x"))
    assert caught.value.code == "RPC_UNIMPLEMENTED"


async def test_a_method_that_nobody_wrote_is_unimplemented_for_whoever_may_call_it(toy):
    connection = toy.connect(toy.store("operator", "alice"))
    with pytest.raises(StateError) as caught:
        await connection.call(
            connection.stub(Models).ListModels, models_pb2.ListModelsRequest(parent="p")
        )
    assert caught.value.code == "RPC_UNIMPLEMENTED"


async def test_without_certificate_only_methods_for_anyone_are_served(toy, anonymous):
    bundle = certificates_pb2_grpc.EnrolmentServiceStub(anonymous).GetTrustBundle
    await call(bundle, certificates_pb2.GetTrustBundleRequest(), deadline_s=5)
    with pytest.raises(AuthenticationError) as caught:
        await call(Participation(anonymous).GetUploadStatus, Status(round="r"), deadline_s=5)
    assert caught.value.code == "CERTIFICATE_REQUIRED"
    renew = certificates_pb2_grpc.EnrolmentServiceStub(anonymous).RenewCertificates
    request = certificates_pb2.RenewCertificatesRequest(tls_csr=b"x", signing_csr=b"x")
    with pytest.raises(AuthenticationError) as caught:
        await call(renew, request, deadline_s=5)
    assert caught.value.code == "CERTIFICATE_REQUIRED"


async def test_without_certificate_the_members_listener_shakes_no_hands(toy):
    target = "aggregator.lending.finsecure.internal"
    async with open_anonymous_channel(toy.address, toy.pki.root.pem, target) as channel:
        with pytest.raises(UnavailableError) as caught:
            await call(Participation(channel).GetUploadStatus, Status(round="r"), deadline_s=5)
        assert caught.value.code == "SERVICE_UNREACHABLE"


async def test_a_certificate_of_another_root_is_refused(toy, tmp_path):
    stranger = TestAuthority()
    stranger.enrol(tmp_path / "stranger", "client", "bank-a")
    folder = tmp_path / "stranger" / "current"
    channel = grpc.aio.secure_channel(
        toy.address,
        grpc.ssl_channel_credentials(
            toy.pki.root.pem,
            (folder / "tls.key").read_bytes(),
            (folder / "tls.crt").read_bytes(),
        ),
        options=[("grpc.ssl_target_name_override", "aggregator.lending.finsecure.internal")],
    )
    with pytest.raises(UnavailableError):
        await call(Participation(channel).GetUploadStatus, Status(round="r"), deadline_s=5)
    await channel.close()


async def test_an_expired_certificate_is_refused_on_both_sides(toy):
    now = utc_now()
    store = toy.store(not_before=now - timedelta(hours=2), not_after=now - timedelta(hours=1))
    with pytest.raises(AuthenticationError) as caught:
        await status(toy.connect(store))
    assert caught.value.code == "CERTIFICATE_EXPIRED"
    # A caller that does not look at its own clock is refused in the handshake.
    past = Connection(
        toy.address, store, Role.AGGREGATOR, clock=lambda: now - timedelta(minutes=90)
    )
    async with past:
        with pytest.raises(UnavailableError) as refused:
            await status(past)
    assert refused.value.code == "SERVICE_UNREACHABLE"


async def test_expiry_on_an_open_connection_is_noticed(toy):
    store = toy.store(not_after=utc_now() + timedelta(seconds=2))
    connection = toy.connect(store)
    await status(connection)
    await asyncio.sleep(2.1)
    with pytest.raises(AuthenticationError) as caught:
        await status(connection)
    assert caught.value.code == "CERTIFICATE_EXPIRED"


async def test_revocation_on_an_open_connection_is_noticed(toy):
    store = toy.store()
    connection = toy.connect(store)
    await status(connection)
    toy.pki.revoke(store.current().certified.serial)
    with pytest.raises(AuthenticationError) as caught:
        await status(connection)
    assert caught.value.code == "CERTIFICATE_REVOKED"
    assert caught.value.culprit == "bank-a"


async def test_a_stale_revocation_list_locks_everybody_out(toy):
    connection = toy.connect()
    await status(connection)
    toy.pki.revoke()
    toy.pki.crl_lifetime = timedelta(seconds=1)
    toy.pki.current()
    await asyncio.sleep(1.1)
    with pytest.raises(AuthenticationError) as caught:
        await status(connection)
    assert caught.value.code == "REVOCATION_LIST_STALE"


async def test_a_call_without_deadline_is_refused(toy):
    stub = toy.connect().stub(Participation)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetUploadStatus(Status(round="r"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info_of(caught.value).reason == "DEADLINE_REQUIRED"


async def test_a_deadline_beyond_the_bound_is_refused(toy):
    with pytest.raises(InvalidArgumentError) as caught:
        await status(toy.connect(), deadline_s=3600)
    assert caught.value.code == "DEADLINE_TOO_LONG"


async def test_the_deadline_ends_a_slow_call(toy):
    with pytest.raises(UnavailableError) as caught:
        await status(toy.connect(), "slow", deadline_s=0.5)
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert toy.address in caught.value.message


async def test_an_invalid_message_names_its_fields(toy):
    with pytest.raises(InvalidMessageError) as caught:
        await status(toy.connect(), "")
    assert [item.field for item in caught.value.violations] == ["round"]


async def test_a_nested_violation_has_its_path(toy):
    connection = toy.connect()
    stub = connection.stub(Participation)
    responses = connection.stream(stub.Watch, Watch(tasks=["t", ""]), deadline_s=5)
    with pytest.raises(InvalidMessageError) as caught:
        await anext(responses)
    assert [item.field for item in caught.value.violations] == ["tasks[1]"]


async def test_every_streamed_message_is_validated(toy):
    chunk = models_pb2.Chunk(offset=0, content=b"12345")

    async def requests():
        yield participation_pb2.SubmitInputRequest(chunk=chunk)
        yield participation_pb2.SubmitInputRequest()  # lacks its part

    connection = toy.connect()
    stub = connection.stub(Participation)
    with pytest.raises(InvalidMessageError):
        await connection.call(stub.SubmitInput, requests(), deadline_s=5)
    assert toy.participation.uploads == [5]


async def test_an_error_crosses_the_wire_with_code_and_culprit(toy):
    with pytest.raises(NotFoundError) as caught:
        await status(toy.connect(), "missing")
    assert caught.value.code == "ROUND_NOT_FOUND"
    assert caught.value.culprit == "bank-z"
    assert caught.value.message == "There is no such round."


async def test_an_unknown_exception_tells_nothing(toy, capfd):
    with pytest.raises(InternalError) as caught:
        await status(toy.connect(), "broken")
    assert caught.value.code == "INTERNAL"
    assert "hunter2" not in str(caught.value)


async def test_a_misconfigured_server_tells_nothing(toy):
    with pytest.raises(InternalError) as caught:
        await status(toy.connect(), "misconfigured")
    assert caught.value.code == "INTERNAL"
    assert "secret" not in str(caught.value)


async def test_a_message_that_grows_when_unpacked_is_refused(toy):
    """A compressed message may be far smaller than its content, so none is taken."""
    folder = toy.store().folder
    channel = grpc.aio.secure_channel(
        toy.address,
        grpc.ssl_channel_credentials(
            toy.pki.root.pem, (folder / "tls.key").read_bytes(), (folder / "tls.crt").read_bytes()
        ),
        options=[
            ("grpc.ssl_target_name_override", "aggregator.lending.finsecure.internal"),
            ("grpc.max_send_message_length", -1),
        ],
        compression=grpc.Compression.Gzip,
    )
    method = Participation(channel).GetUploadStatus
    for size in (1 << 10, 32 << 20):
        with pytest.raises(StateError) as caught:
            await call(method, Status(round="x" * size), deadline_s=20)
        assert caught.value.code == "RPC_UNIMPLEMENTED"
    await channel.close()


@pytest.mark.parametrize("what", ["revoked", "expired"])
async def test_an_open_stream_ends_when_its_caller_may_not_go_on(toy, what):
    validity = {"not_after": utc_now() + timedelta(seconds=2)} if what == "expired" else {}
    store = toy.store(**validity)
    connection = toy.connect(store)
    stub = connection.stub(Participation)
    responses = connection.stream(stub.Watch, Watch(tasks=["t"]), deadline_s=60)
    first = await anext(responses)
    assert first.round == str(store.current().spiffe_id)
    assert toy.participation.open == 1
    if what == "revoked":
        toy.pki.revoke(store.current().certified.serial)
    async with asyncio.timeout(5):
        with pytest.raises(AuthenticationError) as caught:
            await anext(responses)
    assert caught.value.code == f"CERTIFICATE_{what.upper()}"
    assert toy.participation.open == 0


async def test_a_revoked_caller_who_does_not_read_is_cut_off_too(toy):
    store = toy.store()
    connection = toy.connect(store)
    request = models_pb2.DownloadModelRequest(name="m")
    chunks = connection.stream(connection.stub(Models).DownloadModel, request, deadline_s=60)
    await anext(chunks)
    await asyncio.sleep(0.3)  # the server is stuck in flow control now
    toy.pki.revoke(store.current().certified.serial)
    await asyncio.sleep(0.5)

    async def read_all():
        async for _ in chunks:
            pass

    with pytest.raises(AuthenticationError) as caught:
        await asyncio.wait_for(read_all(), 5)
    assert caught.value.code == "CERTIFICATE_REVOKED"


async def test_a_revoked_upload_is_cut_off(toy):
    store = toy.store()
    connection = toy.connect(store)

    async def requests():
        chunk = models_pb2.Chunk(offset=0, content=b"12345")
        yield participation_pb2.SubmitInputRequest(chunk=chunk)
        await toy.participation.received.wait()
        toy.pki.revoke(store.current().certified.serial)
        await asyncio.Event().wait()

    stub = connection.stub(Participation)
    async with asyncio.timeout(5):
        with pytest.raises(AuthenticationError) as caught:
            await connection.call(stub.SubmitInput, requests(), deadline_s=60)
    assert caught.value.code == "CERTIFICATE_REVOKED"


async def test_too_many_calls_are_told_when_to_come_back(toy_with):
    limits = Limits(rate=Rate(per_second=0.5, burst=3))
    async with toy_with(limits=limits) as toy:
        one, other = toy.connect(), toy.connect(toy.store(id_="bank-b"))
        for _ in range(3):
            await status(one)
        with pytest.raises(RateExceededError) as caught:
            await status(one)
        assert 1.0 < caught.value.retry_after_s <= 2.0
        await status(other)  # another identity has its own bucket


async def test_anonymous_calls_are_counted_by_address(toy_with):
    limits = Limits(anonymous_rate=Rate(per_second=0.1, burst=2))
    async with toy_with(limits=limits) as toy:
        for attempt in range(3):
            # A new connection, thus a new port, each time.
            target = "aggregator.lending.finsecure.internal"
            async with open_anonymous_channel(
                toy.anonymous_address, toy.pki.root.pem, target
            ) as channel:
                stub = certificates_pb2_grpc.EnrolmentServiceStub(channel)
                request = certificates_pb2.GetTrustBundleRequest()
                if attempt < 2:
                    await call(stub.GetTrustBundle, request, deadline_s=5)
                else:
                    with pytest.raises(RateExceededError):
                        await call(stub.GetTrustBundle, request, deadline_s=5)


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    raw = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(raw).details[0].Unpack(info)
    return info


async def test_nobody_takes_all_the_streams(toy_with):
    async with toy_with(limits=Limits(deadlines={WATCH: 60.0}, streams=3)) as toy:
        greedy, other = toy.connect(), toy.connect(toy.store("client", "bank-b"))

        def watch(connection):
            stub = connection.stub(Participation)
            return aiter(connection.stream(stub.Watch, Watch(tasks=["t"]), deadline_s=30))

        held = [watch(greedy) for _ in range(3)]
        for stream in held:
            await anext(stream)
        again = toy.connect()  # another connection does not help
        with pytest.raises(ResourceExhaustedError) as caught:
            await anext(watch(again))
        assert caught.value.code == "TOO_MANY_STREAMS"
        await anext(watch(other))
        await held[0].aclose()
        async with asyncio.timeout(10):
            while True:  # the server hears a little later that the stream is gone
                try:
                    await anext(watch(again))
                    break
                except ResourceExhaustedError:
                    await asyncio.sleep(0.02)
