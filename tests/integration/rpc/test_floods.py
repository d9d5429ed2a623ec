"""Slow and greedy callers against a real server: bounded, told so, and no harm to the others."""

import asyncio
import socket

import grpc
import pytest
from finsecure.aggregation.v1 import participation_pb2
from finsecure.aggregation.v1 import participation_pb2_grpc as participation_grpc
from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure_crypto.errors import AuthenticationError, FinSecureError, UnavailableError
from finsecure_rpc import server as server_module
from finsecure_rpc.call import call
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.policy import Limits, Rate
from finsecure_rpc.status import RateExceededError

TARGET = "aggregator.lending.finsecure.internal"
STATUS = "/finsecure.aggregation.v1.ParticipationService/GetUploadStatus"
BUNDLE = "/finsecure.keyservice.v1.EnrolmentService/GetTrustBundle"


async def status(connection, deadline_s=30.0):
    stub = connection.stub(participation_grpc.ParticipationServiceStub)
    request = participation_pb2.GetUploadStatusRequest(round="r")
    return await connection.call(stub.GetUploadStatus, request, deadline_s=deadline_s)


def silent(channel, method, timeout_s):
    """Open a call of a method with one request, and never send the request."""
    return channel.stream_unary(method)(timeout=timeout_s)


async def ended(opened):
    try:
        await opened
    except grpc.aio.AioRpcError as error:
        return error.code()
    raise AssertionError("a call without a request was answered")


async def test_calls_that_never_send_their_request_end_with_their_deadline(toy):
    channel = toy.connect().channel()
    async with asyncio.timeout(20):
        assert await ended(silent(channel, STATUS, None)) is grpc.StatusCode.INVALID_ARGUMENT
        assert await ended(silent(channel, STATUS, 3600)) is grpc.StatusCode.INVALID_ARGUMENT
        assert await ended(silent(channel, STATUS, 0.3)) is grpc.StatusCode.DEADLINE_EXCEEDED
        empty = silent(channel, STATUS, 10)
        await empty.done_writing()
        assert await ended(empty) is grpc.StatusCode.INVALID_ARGUMENT


async def test_one_address_waits_for_few_requests_at_once(toy_with):
    async with toy_with(limits=Limits(awaited=3, rate=Rate(1e6, 1e6))) as toy:
        bank = toy.connect()
        await status(bank)
        async with open_anonymous_channel(
            toy.anonymous_address, toy.pki.root.pem, TARGET
        ) as channel:
            held = [silent(channel, BUNDLE, 50) for _ in range(3)]
            async with asyncio.timeout(20):
                while True:  # until the server has seen all of them
                    try:
                        await status(bank)
                    except RateExceededError as error:
                        assert error.retry_after_s == 1.0  # noqa: PT017
                        break
            for opened in held:
                opened.cancel()
            async with asyncio.timeout(20):
                while True:
                    try:
                        await status(bank)
                        break
                    except RateExceededError:
                        await asyncio.sleep(0.02)


async def test_connections_that_never_shake_hands_are_closed_and_hurt_nobody(toy_with, monkeypatch):
    options = [
        (name, 1000 if name == "grpc.server_handshake_timeout_ms" else value)
        for name, value in server_module._OPTIONS
    ]
    monkeypatch.setattr(server_module, "_OPTIONS", options)
    async with toy_with() as toy:
        bank = toy.connect()
        sockets = [
            socket.create_connection(("127.0.0.1", toy.server.ports[number % 2]))
            for number in range(200)
        ]
        for each in sockets[::4]:
            each.sendall(b"\x16\x03\x01")  # the beginning of a handshake that never goes on
        await status(bank)

        def closed(each):
            each.settimeout(60)
            try:
                return each.recv(1) == b""
            except ConnectionResetError:
                return True

        for each in sockets:
            assert await asyncio.to_thread(closed, each)
            each.close()
        await status(bank)


async def test_a_flood_is_turned_away_and_others_are_served(toy_with):
    limits = Limits(rate=Rate(per_second=1, burst=20))
    async with toy_with(limits=limits) as toy:
        greedy, other = toy.connect(), toy.connect(toy.store(id_="bank-b"))
        flood = [asyncio.create_task(status(greedy)) for _ in range(500)]
        for _ in range(10):
            await status(other)
        outcomes = await asyncio.gather(*flood, return_exceptions=True)
        served = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
        refused = [outcome for outcome in outcomes if isinstance(outcome, RateExceededError)]
        # HTTP/2 itself turns away what is beyond the streams of one connection.
        unserved = [outcome for outcome in outcomes if isinstance(outcome, UnavailableError)]
        assert len(served) + len(refused) + len(unserved) == 500
        assert 20 <= len(served) < 250
        assert refused
        assert all(0 < error.retry_after_s <= 1 for error in refused)


async def test_a_revoked_caller_pays_by_address(toy_with):
    limits = Limits(anonymous_rate=Rate(per_second=0.01, burst=3))
    async with toy_with(limits=limits) as toy:
        store = toy.store()
        bank, other = toy.connect(store), toy.connect(toy.store(id_="bank-b"))
        await status(bank)
        toy.pki.revoke(store.current().certified.serial)
        codes = []
        for _ in range(5):
            try:
                await status(bank)
            except FinSecureError as error:
                codes.append(type(error))
        assert codes == [AuthenticationError] * 3 + [RateExceededError] * 2
        await status(other)  # an identity that is known pays by itself


async def test_a_message_above_the_limit_is_refused_before_it_is_read(toy):
    channel = toy.connect().channel()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(STATUS)(bytes(5 << 20), timeout=20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await status(toy.connect(toy.store(id_="bank-b")))


async def test_enrolment_answers_with_the_time_to_come_back(toy_with):
    limits = Limits(anonymous_rate=Rate(per_second=0.5, burst=1))
    async with (
        toy_with(limits=limits) as toy,
        open_anonymous_channel(toy.anonymous_address, toy.pki.root.pem, TARGET) as channel,
    ):
        stub = certificates_pb2_grpc.EnrolmentServiceStub(channel)
        request = certificates_pb2.GetTrustBundleRequest()
        await call(stub.GetTrustBundle, request, deadline_s=20)
        with pytest.raises(RateExceededError) as caught:
            await call(stub.GetTrustBundle, request, deadline_s=20)
        assert 0 < caught.value.retry_after_s <= 2
