"""The key service: certificates, the audit log, and what authorising a call costs."""

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure_crypto.certificates import Purpose, Role, SpiffeId
from finsecure_crypto.signatures import SignatureAlgorithm
from finsecure_keyservice.books import open_books
from finsecure_keyservice.protection.authority_key import authority_key
from finsecure_keyservice.protection.opening import create_vault
from finsecure_keyservice.protection.settings import TokenProtection
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.channel import open_channel, server_name
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.database import Database, open_database
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.policy import Limits, Rate, domain_peers
from finsecure_rpc.server import Listener, build_server
from sqlalchemy import Connection

from benchmarks.figures import Figure, Figures, Progress
from tests.support.keyservice import DOMAIN, authority, root, trail
from tests.support.pki import TestAuthority
from tests.support.softhsm import new_token

_METHOD = "/finsecure.keyservice.v1.CertificateService/GetRevocationList"
_CALLS = 300
_EVENTS = 2000
_SIGNATURES = 1000


def measure(repetitions: int, progress: Progress) -> Figures:
    """Measures all of it; wall time where a disk or a queue is part of the figure."""
    progress("certificates")
    figures = {"certificates_per_s": Figure(_certificates(repetitions), "1/s")}
    with tempfile.TemporaryDirectory(prefix="benchmark-keyservice-") as folder:
        progress("audit events")
        database = open_database(f"sqlite:///{folder}/keyservice.db")
        database.run_sync(lambda connection: open_books(connection, DOMAIN))
        try:
            figures |= _events(database, Path(folder), repetitions)
        finally:
            database.close()
        if shutil.which("softhsm2-util") is not None:
            progress("certificates from a token")
            figures |= _token(Path(folder), repetitions)
        progress("authorised calls")
        figures |= asyncio.run(_overhead(Path(folder), repetitions))
    return figures


def _certificates(repetitions: int) -> tuple[float, ...]:
    issuing, now = authority(), datetime.now(UTC)
    identity = SpiffeId(f"lending.{DOMAIN}", Role.CLIENT, "bank-a")
    keys = [ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(300)]
    rates = []
    for _ in range(repetitions):
        start = time.process_time()
        for key in keys:
            certificate = issuing.issue(identity, Purpose.TLS, key, now, timedelta(hours=24))
            certificate.public_bytes(Encoding.DER)
        rates.append(len(keys) / (time.process_time() - start))
    return tuple(rates)


def _token(folder: Path, repetitions: int) -> Figures:
    """Certificates from a key in a SoftHSM2 token, beside the token's signatures alone."""
    vault = create_vault(TokenProtection.model_validate(new_token(folder).settings))
    signer = vault.generate(SignatureAlgorithm.EC_P256_SHA256, b"benchmark").signer
    now = datetime.now(UTC)
    issuing = root().create_intermediate(now, timedelta(days=1), key=authority_key(signer))
    identity = SpiffeId(f"lending.{DOMAIN}", Role.CLIENT, "bank-a")
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    issued, signed = [], []
    for _ in range(repetitions):
        start = time.process_time()
        for _ in range(_SIGNATURES):
            signer.sign(b"x" * 500)
        signed.append(_SIGNATURES / (time.process_time() - start))
        start = time.process_time()
        for _ in range(_SIGNATURES):
            issuing.issue(identity, Purpose.TLS, key, now, timedelta(hours=24))
        issued.append(_SIGNATURES / (time.process_time() - start))
    return {
        "certificates_hsm_per_s": Figure(tuple(issued), "1/s"),
        "signatures_hsm_per_s": Figure(tuple(signed), "1/s"),
    }


def _event(connection: Connection) -> None:
    trail(connection).record("certificate.issue", "certificates/0123456789abcdef", member="bank-a")


def _events(database: Database, folder: Path, repetitions: int) -> Figures:
    alone, synced, together = [], [], []
    for _ in range(repetitions):
        alone.append(statistics.median(_wall_ms(lambda: database.run_sync(_event), 100)))
        with (folder / "synced").open("ab") as file:
            synced.append(statistics.median(_wall_ms(lambda file=file: _append(file), 100)))
        together.append(asyncio.run(_flood(database)))
    return {
        "audit_event_ms": Figure(tuple(alone), "ms"),
        "disk_sync_ms": Figure(tuple(synced), "ms"),
        "audit_events_per_s": Figure(tuple(together), "1/s"),
    }


def _append(file: "object") -> None:
    file.write(bytes(4096))  # type: ignore[attr-defined]
    file.flush()  # type: ignore[attr-defined]
    os.fsync(file.fileno())  # type: ignore[attr-defined]


def _wall_ms(work: Callable[[], object], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


async def _flood(database: Database) -> float:
    start = time.perf_counter()
    await asyncio.gather(*(database.run(_event) for _ in range(_EVENTS)))
    return _EVENTS / (time.perf_counter() - start)


class _Certificates(certificates_pb2_grpc.CertificateServiceServicer):
    async def GetRevocationList(  # noqa: N802
        self, request: certificates_pb2.GetRevocationListRequest, context: object
    ) -> certificates_pb2.GetRevocationListResponse:
        return certificates_pb2.GetRevocationListResponse(crl=b"list")


async def _overhead(folder: Path, repetitions: int) -> Figures:
    """The same call over mTLS with and without identity, revocation, policy and validation.

    Caller and server share this process, so the difference in its CPU time is the server's part.
    """
    pki = TestAuthority()
    store = pki.enrol(folder / "server", "keyservice", "main")
    client = pki.enrol(folder / "client", "client", "bank-a")
    values = []
    async with _plain(store) as plain_port, _guarded(pki, store) as guarded_port:
        channels = [_channel(client, port) for port in (plain_port, guarded_port)]
        try:
            for _ in range(repetitions):
                plain, guarded = [await _cpu_ms(channel) for channel in channels]
                values.append(guarded - plain)
        finally:
            for channel in channels:
                await channel.close()
    return {"authorised_call_overhead_ms": Figure(tuple(values), "ms")}


def _channel(client: IdentityStore, port: int) -> grpc.aio.Channel:
    identity = client.current()
    return open_channel(f"127.0.0.1:{port}", identity, server_name(identity, Role.KEYSERVICE, None))


async def _cpu_ms(channel: grpc.aio.Channel) -> float:
    call = certificates_pb2_grpc.CertificateServiceStub(channel).GetRevocationList
    request = certificates_pb2.GetRevocationListRequest()
    for _ in range(50):
        await call(request, timeout=30)
    start = time.process_time()
    for _ in range(_CALLS):
        await call(request, timeout=30)
    return (time.process_time() - start) / _CALLS * 1e3


@asynccontextmanager
async def _plain(store: IdentityStore) -> AsyncIterator[int]:
    server = grpc.aio.server()
    certificates_pb2_grpc.add_CertificateServiceServicer_to_server(_Certificates(), server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(store))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def _guarded(pki: TestAuthority, store: IdentityStore) -> AsyncIterator[int]:
    domain, anchors = store.current().spiffe_id.trust_domain, pki.anchors
    server = build_server(
        [(certificates_pb2_grpc.add_CertificateServiceServicer_to_server, _Certificates())],
        {_METHOD: frozenset({Role.CLIENT})},
        Authenticator(lambda: anchors, pki, domain_peers(domain)),
        [Listener("127.0.0.1:0", server_credentials(store))],
        Limits(rate=Rate(1e6, 1e6)),
    )
    await server.start()
    try:
        yield server.ports[0]
    finally:
        await server.stop(0)
