"""Trustees in this process, with real worker processes, and clients that contribute to sums.

The key is Paillier's of 2048 bits from known primes, and a contribution is one ciphertext with the
proof that its client knows what is in it.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, reduce
from pathlib import Path

import numpy as np
from cryptography import x509
from finsecure_crypto.audit_event import Event
from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.checkpoint import LogVerifier
from finsecure_crypto.encoding import CountSection, VectorLayout, rounding_generator
from finsecure_crypto.errors import NotFoundError
from finsecure_crypto.homomorphic.decryption import (
    Contribution,
    DecryptionRequest,
    EncryptedContext,
    RoundSubject,
    Subject,
    SumSubject,
    manifest_digest,
)
from finsecure_crypto.homomorphic.key_record import Generation, KeyDescription, KeyState
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.scheme import EncryptionKey, KeyShare
from finsecure_crypto.signing import SigningKey
from finsecure_keyservice.audit.service import service as audit_service
from finsecure_keyservice.audit.signed_log import SignedLog
from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.protection.file_kek import FileKek
from finsecure_keyservice.protection.kek import KeyEncryptionKey
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.adding import Piece
from finsecure_keyservice.trustee.books import LOG, Books, opened_books
from finsecure_keyservice.trustee.ceremonies import Ceremonies, StepsOf
from finsecure_keyservice.trustee.dealt_shares import DealtShares
from finsecure_keyservice.trustee.erasures import Erasures
from finsecure_keyservice.trustee.holdings import Holdings
from finsecure_keyservice.trustee.opening import Openings
from finsecure_keyservice.trustee.policy import LIMITS, POLICY
from finsecure_keyservice.trustee.records import HeldKey
from finsecure_keyservice.trustee.rules import Rules
from finsecure_keyservice.trustee.schemes import steps_of
from finsecure_keyservice.trustee.service import Desk, services
from finsecure_keyservice.trustee.surroundings import Surroundings, share_context
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.database import Database
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.policy import federation_peers
from finsecure_rpc.server import Listener, build_server

from tests.support.paillier import dealt
from tests.support.pki import TestAuthority
from tests.support.published import FixedMinima

FEDERATION = "lending"
KEY_NAME = "federations/lending/encryptionKeys/first"
CALLER = Caller("spiffe://lending.finsecure.internal/aggregator/main")
OPERATOR = Caller("spiffe://finsecure.internal/operator/alice")
DIGEST = bytes(range(32))
ROUND = RoundSubject("scoring", 3, 1, DIGEST, DIGEST, DIGEST)
SUM = SumSubject("exposure", DIGEST, DIGEST)
LAYOUT = VectorLayout((CountSection("amount", 3, 1000),), 10)
CLIENTS = ("bank-a", "bank-b", "bank-c")
VALUES = {"bank-a": (1, 2, 3), "bank-b": (10, 20, 30), "bank-c": (100, 200, 300)}
GRACE = timedelta(days=7)
RULES = Rules(FEDERATION, 3, 3, 1000, 1 << 20)


@cache
def key() -> EncryptionKey:
    """The public key of all tests."""
    return dealt(2048).key


def share(holder: int) -> KeyShare:
    return dealt(2048).shares[holder - 1]


def context_of(subject: Subject = ROUND, minimum: int = 2) -> EncryptedContext:
    return EncryptedContext(
        FEDERATION, subject, KEY_NAME, key().digest(), minimum, 10, LAYOUT.digest()
    )


def contributed(client: str, context: EncryptedContext | None = None) -> bytes:
    """What a client contributes: a ciphertext and its proof, the same in the whole session."""
    return _contributed(client, context or context_of())


@cache
def _contributed(client: str, context: EncryptedContext) -> bytes:
    values = {"amount": np.array(VALUES.get(client, (0, 0, 0)), dtype=np.uint64)}
    binding = context.input_binding(client)
    return b"".join(key().encrypt_input(LAYOUT, values, rounding_generator(), binding))


def ciphertexts(data: bytes) -> bytes:
    """An input without its proof."""
    return data[: key().shape(LAYOUT).total_bytes]


def add(inputs: Sequence[bytes]) -> bytes:
    return reduce(key().add, map(ciphertexts, inputs))


@dataclass
class Signer:
    """A client with a certified signing key."""

    client: str
    key: SigningKey
    certificate: bytes
    serial: int


@dataclass
class Bank:
    """Everything that an aggregator would send to have one sum opened."""

    request: DecryptionRequest
    manifest: list[Contribution]
    inputs: list[bytes]

    @property
    def total(self) -> bytes:
        return add(self.inputs)

    @property
    def stream(self) -> bytes:
        return b"".join(self.inputs)


@dataclass
class Federation:
    """The clients of a federation and their authority."""

    pki: TestAuthority
    signers: dict[str, Signer] = field(default_factory=dict)

    def signer(self, client: str, **validity: datetime) -> Signer:
        if client not in self.signers or validity:
            made = self.pki.credentials(self.pki.spiffe_id(Role.CLIENT, client), **validity)
            serial = x509.load_der_x509_certificate(made.signing_certificate).serial_number
            self.signers[client] = Signer(
                client, made.signing_key, made.signing_certificate, serial
            )
        return self.signers[client]

    def context(self, subject: Subject = ROUND, minimum: int = 2) -> EncryptedContext:
        return context_of(subject, minimum)

    def contribution(self, context: EncryptedContext, client: str, data: bytes) -> Contribution:
        signer = self.signer(client)
        sha256 = hashlib.sha256(data).digest()
        signature = signer.key.sign(*context.input_statement(len(data), sha256))
        return Contribution(client, sha256, signature, signer.certificate)

    def sum(
        self,
        clients: Sequence[str] = CLIENTS,
        subject: Subject = ROUND,
        *,
        inputs: dict[str, bytes] | None = None,
        change: Callable[[list[Contribution]], list[Contribution]] = list,
        context: EncryptedContext | None = None,
        total: bytes | None = None,
    ) -> Bank:
        """A request for the sum of some clients, bent where a test says so."""
        context = context or self.context(subject)
        given = inputs or {}
        data = {client: given.get(client) or contributed(client, context) for client in clients}
        manifest = change([self.contribution(context, each, data[each]) for each in clients])
        runs = [data[each] for each in clients]
        summed = add(runs) if total is None else total
        request = DecryptionRequest(
            context,
            len(manifest),
            len(runs[0]),
            manifest_digest(manifest),
            hashlib.sha256(summed).digest(),
        )
        return Bank(request, manifest, runs)


class States:
    """Where keys stand, as the test says."""

    def __init__(self) -> None:
        self.current: KeyState | Exception = KeyState.ENABLED
        self.logged: set[tuple[str, KeyState]] = set()

    async def state(self, key_name: str) -> KeyState:
        if isinstance(self.current, Exception):
            raise self.current
        return self.current

    async def proven(self, key: KeyDescription, state: KeyState) -> int:
        if (key.name, state) not in self.logged:
            raise NotFoundError("PUBLICATION_NOT_FOUND", "the log does not have it")
        return 7


@dataclass
class Trustee:
    """One trustee on a database file, which survives it."""

    folder: Path
    pki: TestAuthority
    holder: int
    states: States
    kek: KeyEncryptionKey
    books: Books
    log: SignedLog
    identities: IdentityStore
    rules: Rules = RULES
    minima: FixedMinima = field(default_factory=FixedMinima)
    steps_of: StepsOf = steps_of
    dealt_keys: bool = True

    @property
    def id(self) -> str:
        return f"trustee-{self.holder}"

    @property
    def around(self) -> Surroundings:
        return Surroundings(
            self.books,
            self.kek,
            self.states,
            self.minima,
            lambda: self.pki.anchors,
            self.pki,
            f"{FEDERATION}.{self.pki.domain}",
            self.rules,
            60.0,
        )

    @property
    def openings(self) -> Openings:
        return Openings(self.around, self.erasures, 2)

    @property
    def erasures(self) -> Erasures:
        own = SpiffeId(f"{FEDERATION}.{self.pki.domain}", Role.TRUSTEE, self.id)
        return Erasures(self.around, own, GRACE)

    @property
    def holdings(self) -> Holdings:
        return Holdings(self.around, self.identities)

    def ceremonies(self) -> Ceremonies:
        return Ceremonies(self.around, self.holdings, self.identities, self.steps_of)

    @property
    def dealt_shares(self) -> DealtShares:
        return DealtShares(self.books, self.holdings, self.identities, accepted=self.dealt_keys)

    def hold(self, name: str = KEY_NAME) -> None:
        """Give it its share of the key."""
        held = HeldKey(
            KeyDescription(name, Mode.PAILLIER, Generation.DEALER, 3, 2, key().digest()),
            self.holder,
            key().serialise(),
            self.kek.wrap(share(self.holder).serialise(), share_context(name)),
            DIGEST,
        )
        self.database.run_sync(lambda c: store.add_key(c, held, self.around.clock()))

    async def open(self, bank: Bank) -> bytes:
        """Ask it as the service does; returns the partial."""
        openings = self.openings
        known = await openings.answered(CALLER, bank.request)
        if known is not None:
            return known.partial
        held = await openings.admit(CALLER, bank.request, bank.manifest)
        opening = await openings.open(
            CALLER, bank.request, bank.manifest, held, pieces(bank.stream)
        )
        return opening.partial

    def verdicts(self, subject: str) -> list[tuple[str, str | None]]:
        """Verdict and culprit of each decision on a subject, from the log."""
        return [
            (str(event.details.get("reason", "OPENED")), event.details.get("culprit"))  # type: ignore[misc]
            for event in self.events()
            if event.subject == subject
        ]

    def events(self) -> list[Event]:
        """Everything in the log behind the first event, which names its key."""
        entries = self.database.run_sync(lambda c: LOG.entries(c, 1, 10_000))
        return [Event.parse(entry.leaf) for entry in entries]

    @property
    def log_key(self) -> LogVerifier:
        """The key that signs its log now."""
        return self.database.run_sync(self.log.keys.signer).verifier

    @property
    def database(self) -> Database:
        return self.books.database

    def restarted(self, kek: KeyEncryptionKey | None = None) -> "Trustee":
        """The same trustee after a `kill -9`: only what is on disk is left."""
        self.database.close()
        return make_trustee(self.folder, self.pki, self.holder, self.identities, kek)


async def pieces(stream: bytes, size: int = 300) -> AsyncIterator[Piece]:
    for offset in range(0, len(stream), size):
        yield Piece(offset, stream[offset : offset + size])


def make_trustee(
    folder: Path,
    pki: TestAuthority,
    holder: int,
    identities: IdentityStore | None = None,
    kek: KeyEncryptionKey | None = None,
) -> Trustee:
    folder.mkdir(parents=True, exist_ok=True)
    trustee = f"trustee-{holder}"
    kek_file = folder / "wrapping.key"
    if kek is None:
        kek = FileKek(kek_file) if kek_file.exists() else FileKek.create(kek_file)
    own = SpiffeId(f"{FEDERATION}.{pki.domain}", Role.TRUSTEE, trustee)
    books, log = opened_books(
        f"sqlite:///{folder}/trustee.db", FEDERATION, own, kek, lambda: datetime.now(UTC)
    )
    identities = identities or pki.enrol(folder / "identity", Role.TRUSTEE, trustee)
    return Trustee(folder, pki, holder, States(), kek, books, log, identities)


@asynccontextmanager
async def served(trustee: Trustee) -> AsyncIterator[str]:
    """A trustee behind gRPC on a free port of the loopback; gives the address."""
    desk = Desk(
        trustee.openings,
        trustee.holdings,
        trustee.ceremonies(),
        trustee.dealt_shares,
        trustee.identities,
    )
    server = build_server(
        [*services(desk), audit_service(trustee.books, trustee.log)],
        POLICY,
        Authenticator(
            lambda: trustee.pki.anchors,
            trustee.pki,
            federation_peers(f"{FEDERATION}.{trustee.pki.domain}"),
        ),
        [Listener("127.0.0.1:0", server_credentials(trustee.identities))],
        LIMITS,
    )
    await server.start()
    try:
        yield f"127.0.0.1:{server.ports[0]}"
    finally:
        await server.stop(0.2)
