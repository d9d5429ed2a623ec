"""The caller's side: renewal under traffic, the egress hook, and errors one can act on."""

import asyncio
import socket
import ssl

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from finsecure.aggregation.v1 import models_pb2, participation_pb2, participation_pb2_grpc
from finsecure_crypto.certificates import Purpose, Role
from finsecure_crypto.errors import (
    AuthenticationError,
    ConfigurationError,
    FinSecureError,
    UnavailableError,
)
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.call import call, stream
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.connection import Connection
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.policy import federation_peers
from finsecure_rpc.server import Listener, build_server
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

Participation = participation_pb2_grpc.ParticipationServiceStub
Status = participation_pb2.GetUploadStatusRequest
Watch = participation_pb2.WatchRequest
STATUS = "/finsecure.aggregation.v1.ParticipationService/GetUploadStatus"


async def status(connection, round_="r", **options):
    stub = connection.stub(Participation)
    return await connection.call(stub.GetUploadStatus, Status(round=round_), **options)


def chunk(content=b"12345"):
    return participation_pb2.SubmitInputRequest(chunk=models_pb2.Chunk(offset=0, content=content))


async def test_server_and_client_certificates_are_renewed_under_traffic(toy):
    store = toy.store()
    connection = toy.connect(store)
    stop = asyncio.Event()
    calls = 0

    async def traffic():
        nonlocal calls
        while not stop.is_set():
            await status(connection)
            calls += 1

    workers = [asyncio.create_task(traffic()) for _ in range(4)]
    watching = connection.stream(
        connection.stub(Participation).Watch, Watch(tasks=["t"]), deadline_s=60
    )
    await anext(watching)
    serials = set()
    for _ in range(5):
        toy.pki.enrol(toy.folder / "server", "aggregator", "main")
        toy.pki.enrol(store.folder, "client", "bank-a")
        await asyncio.sleep(0.15)
        serials.add(store.current().certified.serial)
    stop.set()
    await asyncio.gather(*workers)
    assert len(serials) == 5
    assert calls > 20
    assert toy.participation.open == 1  # the stream of the first channel goes on
    await watching.aclose()


async def test_the_server_shows_its_renewed_certificate(toy):
    toy.pki.enrol(toy.folder / "server", "aggregator", "main")
    serial = toy.server_store.current().certified.serial
    assert toy.server_store.current().generation == 2

    def shown() -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        host, port = toy.anonymous_address.split(":")
        with (
            socket.create_connection((host, int(port)), 5) as plain,
            context.wrap_socket(plain) as secured,
        ):
            assert secured.version() in ("TLSv1.2", "TLSv1.3")
            return x509.load_der_x509_certificate(secured.getpeercert(True)).serial_number

    assert await asyncio.to_thread(shown) == serial


async def test_ed25519_certificates_would_not_do_for_tls(toy):
    """Why TLS keys are ECDSA: gRPC's TLS library does not accept Ed25519 in a handshake."""
    key = ed25519.Ed25519PrivateKey.generate()
    der = toy.pki.issue(toy.pki.spiffe_id("aggregator", "main"), Purpose.TLS, key.public_key())
    chain = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server = grpc.aio.server()
    credentials = grpc.ssl_server_credentials([(pem, chain + toy.pki.intermediate.pem)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    target = "aggregator.lending.finsecure.internal"
    address = f"127.0.0.1:{port}"
    async with open_anonymous_channel(address, toy.pki.root.pem, target) as channel:
        with pytest.raises(UnavailableError, match="SERVICE_UNREACHABLE"):
            await call(Participation(channel).GetUploadStatus, Status(round="r"), deadline_s=10)
    await server.stop(None)


async def test_damaged_renewed_files_do_not_stop_the_server(toy):
    (toy.folder / "server" / "generations" / "9").mkdir()
    link = toy.folder / "server" / "current"
    link.unlink()
    link.symlink_to("generations/9")
    assert (await status(toy.connect())).committed_bytes == 7


async def test_every_outgoing_message_is_shown_first(toy):
    seen = []
    connection = toy.connect(on_send=lambda method, message: seen.append((method, message)))
    await status(connection, "one")

    async def requests():
        yield chunk(b"1")
        yield chunk(b"2")

    await connection.call(connection.stub(Participation).SubmitInput, requests())
    responses = connection.stream(
        connection.stub(Participation).Watch, Watch(tasks=["t"]), deadline_s=5
    )
    await anext(responses)
    await responses.aclose()
    assert [method.rpartition("/")[2] for method, _ in seen] == [
        "GetUploadStatus",
        "SubmitInput",
        "SubmitInput",
        "Watch",
    ]
    assert seen[0] == (STATUS, Status(round="one"))
    assert seen[2][1].chunk.content == b"2"


async def test_what_the_hook_refuses_is_not_sent(toy):
    def refuse(method, message):
        raise OSError("the manifest cannot be written")

    connection = toy.connect(on_send=refuse)
    with pytest.raises(OSError, match="manifest"):
        await status(connection)

    async def requests():
        yield chunk()

    with pytest.raises(OSError, match="manifest"):
        await connection.call(connection.stub(Participation).SubmitInput, requests())
    assert toy.participation.uploads == []


async def test_what_the_iterator_raises_reaches_the_caller(toy):
    async def requests():
        yield chunk()
        raise KeyError("the disk is gone")

    connection = toy.connect()
    with pytest.raises(KeyError, match="disk"):
        await connection.call(connection.stub(Participation).SubmitInput, requests())


async def test_an_unreachable_service_is_named(toy):
    async with Connection("127.0.0.1:1", toy.store(), Role.AGGREGATOR) as connection:
        with pytest.raises(UnavailableError) as caught:
            await status(connection, deadline_s=10)
    assert caught.value.code == "SERVICE_UNREACHABLE"
    assert "127.0.0.1:1 " in caught.value.message


async def test_a_server_with_another_role_is_not_believed(toy):
    async with Connection(toy.address, toy.store(), Role.KEYSERVICE) as connection:
        with pytest.raises(AuthenticationError) as caught:
            await status(connection)
    assert caught.value.code == "SERVER_UNTRUSTED"


async def test_an_operator_has_to_say_whose_aggregator(toy):
    store = toy.store("operator", "alice")
    async with Connection(toy.address, store, Role.AGGREGATOR) as connection:
        with pytest.raises(ConfigurationError, match="FEDERATION_MISSING"):
            connection.channel()


async def test_closing_the_connection_ends_calls_with_an_error_not_a_cancellation(toy):
    connection = toy.connect()
    task = asyncio.create_task(status(connection, "slow", deadline_s=20))
    await asyncio.sleep(0.3)
    await connection.close()
    with pytest.raises(UnavailableError, match="CONNECTION_CLOSED"):
        await task


async def test_cancelling_the_caller_is_still_a_cancellation(toy):
    task = asyncio.create_task(status(toy.connect(), "slow", deadline_s=20))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_reader_who_leaves_ends_the_stream_on_the_server(toy):
    connection = toy.connect()
    stub = connection.stub(Participation)
    responses = stream(stub.Watch, Watch(tasks=["t"]), deadline_s=60)
    await anext(responses)
    assert toy.participation.open == 1
    await responses.aclose()
    async with asyncio.timeout(5):
        while toy.participation.open:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_health_is_served_to_anyone_and_reflection_to_members(toy_with):
    from finsecure_rpc.channel import open_anonymous_channel

    name = "finsecure.aggregation.v1.ParticipationService"
    async with toy_with(reflection=True) as toy:
        target = "aggregator.lending.finsecure.internal"
        async with open_anonymous_channel(
            toy.anonymous_address, toy.pki.root.pem, target
        ) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            request = health_pb2.HealthCheckRequest(service=name)
            response = await call(check, request, deadline_s=5)
            assert response.status == health_pb2.HealthCheckResponse.SERVING
            await toy.server.set_serving(False)
            response = await call(check, request, deadline_s=5)
            assert response.status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch = health_pb2_grpc.HealthStub(channel).Watch
            with pytest.raises(AuthenticationError, match="CERTIFICATE_REQUIRED"):
                await anext(stream(watch, request, deadline_s=5))
        connection = toy.connect()

        async def requests():
            yield reflection_pb2.ServerReflectionRequest(list_services="")

        stub = connection.stub(reflection_pb2_grpc.ServerReflectionStub)
        answer = await anext(connection.stream(stub.ServerReflectionInfo, requests(), deadline_s=5))
        names = {service.name for service in answer.list_services_response.service}
        assert name in names


async def test_two_servers_do_not_share_a_port(toy):
    with pytest.raises(ConfigurationError, match="LISTEN_FAILED"):
        build_server(
            [],
            {},
            Authenticator(
                lambda: toy.pki.anchors, toy.pki, federation_peers("lending.finsecure.internal")
            ),
            [Listener(toy.address, server_credentials(toy.server_store))],
        )


async def test_a_message_over_the_limit_is_refused(toy):
    connection = toy.connect()
    stub = connection.stub(Participation)
    with pytest.raises(Exception) as caught:
        await connection.call(stub.GetUploadStatus, Status(round="x" * (5 << 20)))
    assert caught.value.code == "RPC_RESOURCE_EXHAUSTED"
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)


async def test_a_refusal_amid_an_upload_is_no_defect_of_the_service(toy):
    """gRPC loses the reason when it cannot send on; that is never reported as INTERNAL."""
    connection = toy.connect(toy.store(role=Role.OPERATOR))
    stub = connection.stub(Participation)

    async def chunks():
        for _ in range(40):
            yield chunk(bytes(1 << 18))
            await asyncio.sleep(0)

    seen = set()
    for _ in range(15):
        with pytest.raises(FinSecureError) as caught:
            await connection.call(stub.SubmitInput, chunks(), deadline_s=20)
        seen.add(caught.value.code)
    assert seen <= {"ROLE_NOT_ALLOWED", "UPLOAD_INTERRUPTED"}


async def test_a_lost_answer_says_to_try_again():
    async def method(request, *, timeout, wait_for_ready):  # noqa: ASYNC109
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.INTERNAL,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(),
            details="Internal error from Core",
        )

    with pytest.raises(UnavailableError) as caught:
        await call(method, chunk(), deadline_s=1, address="here:1")
    assert caught.value.code == "UPLOAD_INTERRUPTED"
