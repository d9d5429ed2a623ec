"""What the key service's tests share: a movable clock, books in memory, requests good and bad."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.audit_event import Event
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.audit.log import AuditLog
from finsecure_keyservice.audit.trail import Caller, Trail
from finsecure_keyservice.authorities import Believed
from finsecure_keyservice.authority import Authority, Root
from finsecure_keyservice.authority_store import AuthorityStore
from finsecure_keyservice.enrolment import Enrolment, Requests
from finsecure_keyservice.members import ApiKeyIssuer
from finsecure_keyservice.schema import AUDIT, METADATA
from finsecure_keyservice.sql_store import SqlStore
from finsecure_rpc.requests import new_keys
from sqlalchemy import Connection, create_engine, event

DOMAIN = "finsecure.test"
START = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
PEPPER = SecretBytes(b"p" * 32)
SEAL_KEY = SecretBytes(b"s" * 32)
LOG = AuditLog(AUDIT)


@dataclass
class MovableClock:
    """A clock that stands still until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def move(self, **delta: float) -> None:
        self.now += timedelta(**delta)


def _enforce_foreign_keys(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA foreign_keys=ON")


class Books:
    """An SQLite database in memory with one transaction at a time."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://")
        event.listen(
            self.engine,
            "connect",
            lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"),
        )
        METADATA.create_all(self.engine)
        with self.engine.begin() as connection:
            LOG.create(connection)

    @contextmanager
    def transaction(self) -> Iterator[SqlStore]:
        with self.engine.begin() as connection:
            yield store(connection)

    def events(self) -> list[Event]:
        """Everything in the audit log."""
        with self.engine.begin() as connection:
            return [Event.parse(entry.leaf) for entry in LOG.entries(connection, 0, 10_000)]


def trail(connection: Connection, now: datetime = START) -> Trail:
    return Trail(LOG, connection, Caller("local:test"), now, SEAL_KEY)


def store(connection: Connection) -> SqlStore:
    return SqlStore(connection, trail(connection))


@cache
def root() -> Root:
    return Root.create(DOMAIN, START, timedelta(days=3650))


@cache
def authority() -> Authority:
    return root().create_intermediate(START, timedelta(days=365))


class FixedAuthorities:
    """`Authorities` of which there is one, whose key is in memory."""

    def active(self, store: AuthorityStore) -> Authority:
        return authority()

    def believed(self, store: AuthorityStore) -> Believed:
        made = authority()
        end = made.certificate.not_valid_after_utc
        return Believed(made.anchors, made.id, end, frozenset())


def enrolment(lifetime: timedelta = timedelta(hours=24)) -> Enrolment:
    return Enrolment(DOMAIN, FixedAuthorities(), lambda: PEPPER, lifetime)


def issuer() -> ApiKeyIssuer:
    return ApiKeyIssuer(lambda: PEPPER, timedelta(days=7), os.urandom)


def requests() -> Requests:
    keys = new_keys()
    return Requests(keys.tls_csr, keys.signing_csr)


def _csr(key: object, algorithm: hashes.HashAlgorithm | None, *extensions: object) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)  # type: ignore[arg-type]
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def _flipped(der: bytes, at: int) -> bytes:
    return der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :]


@cache
def hostile_tls_requests() -> dict[str, bytes]:
    """TLS requests that must be refused, by what is wrong with them."""
    good = requests().tls
    return {
        "empty": b"\x30\x00",
        "text": b"-----BEGIN CERTIFICATE REQUEST-----",
        "random": bytes(range(256)),
        "truncated": good[:-1],
        "trailing": good + b"\x00",
        "indefinite length": b"\x30\x80" + good[4:] + b"\x00\x00",
        "too long a length": b"\x30\x84\xff\xff\xff\xff" + good[4:],
        "deep nesting": b"\x30\x82\x0f\xf0" * 1000,
        "signature changed": _flipped(good, len(good) - 1),
        "public key changed": _flipped(good, good.index(b"\x03\x42\x00\x04") + 40),
        "other curve": _csr(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        "weak curve": _csr(ec.generate_private_key(ec.SECP192R1()), hashes.SHA256()),
        "RSA": _csr(rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        "Ed25519": _csr(ed25519.Ed25519PrivateKey.generate(), None),
        "certificate": root().certificate.public_bytes(Encoding.DER),
    }


def greedy_requests() -> Requests:
    """Requests that are sound but ask for another name, another role, and to be an authority."""
    wishes = (
        x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/operator/mallory"),
                x509.DNSName(f"keyservice.{DOMAIN}"),
            ]
        ),
        x509.BasicConstraints(ca=True, path_length=None),
    )
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "operator")])

    def ask(key: object, algorithm: hashes.HashAlgorithm | None) -> bytes:
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        for wish in wishes:
            builder = builder.add_extension(wish, critical=True)
        return builder.sign(key, algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]

    return Requests(
        ask(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
        ask(ed25519.Ed25519PrivateKey.generate(), None),
    )
