"""Replacing the intermediate authority: each step only in its state, and never too early."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.certificates import Purpose, verify_certificate
from finsecure_crypto.errors import (
    AuthenticationError,
    InvalidArgumentError,
    NotFoundError,
    StateError,
)
from finsecure_crypto.intermediate import certify_intermediate, certify_request
from finsecure_keyservice.authorities import Authorities
from finsecure_keyservice.authority_store import AuthorityRecord, AuthorityState
from finsecure_keyservice.enrolment import Enrolment
from finsecure_keyservice.federations import create_federation
from finsecure_keyservice.members import create_member
from finsecure_keyservice.protection.file_kek import FileKek
from finsecure_keyservice.protection.vault import Vault
from finsecure_keyservice.revocation import rebuild_list
from finsecure_keyservice.rotation import Rotation
from finsecure_keyservice.sql_store import SqlStore

from tests.support.keyservice import (
    DOMAIN,
    PEPPER,
    START,
    Books,
    MovableClock,
    issuer,
    requests,
    root,
)

HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)
BANKS = [f"federations/lending/clients/bank-{number}" for number in range(2)]


class Scene:
    """Authorities whose keys are wrapped, and two banks that have enrolled."""

    def __init__(self, folder: Path, store: SqlStore) -> None:
        self.store = store
        self.clock = MovableClock()
        vault = Vault(FileKek.create(folder / "kek"))
        self.authorities = Authorities(root().certificate, vault)
        self.rotation = Rotation(self.authorities, HOUR)
        self.first = self.authorities.found(store.authorities, root(), START, YEAR)
        self.enrolment = Enrolment(DOMAIN, self.authorities, lambda: PEPPER, timedelta(hours=24))
        create_federation(store, "federations/lending", "", START)
        self.serials = {}
        for bank in BANKS:
            _, key = create_member(store, issuer(), bank, "", START)
            issued = self.enrolment.enrol(store, key.expose(), requests(), START)
            self.serials[bank] = issued.tls

    def renew(self, bank: str) -> None:
        old = self.serials[bank]
        identity = verify_certificate(
            old.der, self.anchors, None, self.clock(), Purpose.TLS
        ).spiffe_id
        issued = self.enrolment.renew(self.store, identity, old.serial, requests(), self.clock())
        self.serials[bank] = issued.tls

    @property
    def anchors(self):
        return self.authorities.believed(self.store.authorities).anchors

    def prepare(self) -> AuthorityRecord:
        return self.rotation.prepare(self.store.authorities, self.clock())

    def certify(self, record: AuthorityRecord) -> bytes:
        made = certify_request(record.csr, root().certificate, root().key, self.clock(), YEAR)
        return made.public_bytes(Encoding.DER)

    def install(self, record: AuthorityRecord, der: bytes | None = None) -> AuthorityRecord:
        der = self.certify(record) if der is None else der
        return self.rotation.install(self.store.authorities, record.id, der, self.clock())

    def activate(self, identifier: str, *, force: bool = False) -> AuthorityRecord:
        return self.rotation.activate(self.store.authorities, identifier, self.clock(), force=force)

    def taint(self, identifier: str) -> AuthorityRecord:
        return self.rotation.taint(self.store.authorities, identifier, "its time has come")

    def revoke(self, identifier: str, *, force: bool = False) -> AuthorityRecord:
        return self.rotation.revoke(
            self.store.authorities, identifier, "done", self.clock(), force=force
        )

    def rotate(self) -> str:
        """Up to the second authority being active."""
        record = self.install(self.prepare())
        self.clock.move(hours=1)
        self.activate(record.id)
        return record.id


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Books().transaction() as store:
        yield Scene(tmp_path, store)


def test_four_steps_hand_over_without_a_gap(scene: Scene) -> None:
    first = scene.first.id
    second = scene.rotate()
    assert scene.authorities.active(scene.store.authorities).id == second
    believed = scene.authorities.believed(scene.store.authorities)
    assert believed.active == second
    assert believed.anchors.key_ids == {bytes.fromhex(first), bytes.fromhex(second)}
    assert believed.tainted == frozenset()
    for bank in BANKS:  # certificates of the first are good, and renewal gives those of the second
        scene.renew(bank)
        verify_certificate(scene.serials[bank].der, scene.anchors, None, scene.clock(), Purpose.TLS)
        assert scene.serials[bank].issuer == second
    scene.taint(first)
    assert scene.authorities.believed(scene.store.authorities).tainted == {bytes.fromhex(first)}
    scene.clock.move(hours=1)
    scene.revoke(first)
    assert scene.anchors.key_ids == {bytes.fromhex(second)}


def test_the_list_is_signed_by_whoever_is_active_and_known_to_all_who_know_both(
    scene: Scene,
) -> None:
    store = scene.store
    scene.rotate()
    active = scene.authorities.active(store.authorities)
    record = rebuild_list(store, active, scene.clock(), HOUR)
    crl = x509.load_der_x509_crl(record.der)
    assert crl.is_signature_valid(active.certificate.public_key())


def test_nobody_issues_before_everybody_knows(scene: Scene) -> None:
    record = scene.install(scene.prepare())
    scene.clock.move(minutes=59)
    with pytest.raises(StateError, match="AUTHORITY_NOT_PROPAGATED"):
        scene.activate(record.id)
    assert scene.authorities.active(scene.store.authorities).id == scene.first.id
    assert scene.activate(record.id, force=True).state is AuthorityState.ACTIVE


def test_preparing_again_finds_what_waits(scene: Scene) -> None:
    record = scene.prepare()
    again = scene.prepare()
    assert (again.id, again.csr) == (record.id, record.csr)
    scene.install(record)
    with pytest.raises(StateError, match="AUTHORITY_PREPARED"):
        scene.prepare()


def test_a_step_too_early_or_twice_is_refused(scene: Scene) -> None:
    first = scene.first.id
    record = scene.prepare()
    for attempt in (
        lambda: scene.activate(record.id),  # not certified
        lambda: scene.taint(first),  # active
        lambda: scene.revoke(first, force=True),  # active
    ):
        with pytest.raises(StateError, match="AUTHORITY_STATE"):
            attempt()
    scene.install(record)
    with pytest.raises(StateError, match="AUTHORITY_STATE"):
        scene.install(record)
    scene.clock.move(hours=1)
    scene.activate(record.id)
    with pytest.raises(StateError, match="AUTHORITY_STATE"):
        scene.activate(record.id)
    with pytest.raises(StateError, match="AUTHORITY_STATE"):
        scene.revoke(first)  # not tainted
    with pytest.raises(NotFoundError, match="AUTHORITY_NOT_FOUND"):
        scene.taint("00" * 20)


def test_a_retired_authority_can_come_back(scene: Scene) -> None:
    second = scene.rotate()
    scene.activate(scene.first.id)
    assert scene.authorities.active(scene.store.authorities).id == scene.first.id
    scene.taint(second)
    with pytest.raises(StateError, match="AUTHORITY_STATE"):
        scene.activate(second)


def test_an_authority_that_is_needed_stays_until_it_is_forced(scene: Scene) -> None:
    first = scene.first.id
    scene.rotate()
    scene.taint(first)
    scene.renew(BANKS[0])
    scene.clock.move(hours=2)
    with pytest.raises(StateError, match="AUTHORITY_NEEDED") as caught:
        scene.revoke(first)
    assert "2 certificates" in caught.value.message
    assert BANKS[1] in caught.value.message
    assert BANKS[0] not in caught.value.message
    scene.renew(BANKS[1])
    with pytest.raises(StateError, match="AUTHORITY_NEEDED"):  # its answer may have been lost
        scene.revoke(first)
    scene.clock.move(minutes=10)
    scene.revoke(first)


def test_force_puts_out_who_did_not_renew(scene: Scene) -> None:
    first, laggard = scene.first.id, scene.serials[BANKS[1]]
    scene.rotate()
    scene.renew(BANKS[0])
    scene.taint(first)
    scene.revoke(first, force=True)
    with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
        verify_certificate(laggard.der, scene.anchors, None, scene.clock(), Purpose.TLS)
    assert scene.store.certificate(laggard.serial).revoke_time is not None
    assert scene.store.certificate(scene.serials[BANKS[0]].serial).revoke_time is None


def test_expired_certificates_hold_nothing_up(scene: Scene) -> None:
    scene.rotate()
    scene.taint(scene.first.id)
    scene.clock.move(hours=25)
    scene.revoke(scene.first.id)


def test_only_the_certificate_that_was_asked_for_is_taken(scene: Scene) -> None:
    record = scene.prepare()
    good, now = scene.certify(record), scene.clock()
    other_key = ec.generate_private_key(ec.SECP256R1())
    other_root = type(root()).create(DOMAIN, START, YEAR)
    foreign = type(root()).create("elsewhere.test", START, YEAR)
    key = x509.load_der_x509_csr(record.csr).public_key()

    def made(by, public_key=key, at: datetime = now, lifetime: timedelta = YEAR) -> bytes:
        return certify_intermediate(public_key, by.certificate, by.key, at, lifetime).public_bytes(
            Encoding.DER
        )

    for hostile in (
        made(root(), other_key.public_key()),
        made(other_root),
        made(foreign),
        made(root(), at=now + timedelta(days=1)),
        made(root(), lifetime=timedelta(0)),
        root().certificate.public_bytes(Encoding.DER),
        scene.first.certificate.public_bytes(Encoding.DER),
        good[:-1],
        good + b"\x00",
        b"\x30\x00",
        record.csr,
    ):
        with pytest.raises(InvalidArgumentError, match="AUTHORITY_REJECTED"):
            scene.install(record, hostile)
    scene.install(record, good)


def test_the_root_never_certifies_beyond_its_own_end(scene: Scene) -> None:
    record = scene.prepare()
    made = certify_request(
        record.csr, root().certificate, root().key, scene.clock(), timedelta(days=10_000)
    )
    assert made.not_valid_after_utc == root().certificate.not_valid_after_utc
    with pytest.raises(StateError, match="AUTHORITY_EXPIRED"):
        certify_request(
            record.csr,
            root().certificate,
            root().key,
            root().certificate.not_valid_after_utc,
            YEAR,
        )
    with pytest.raises(InvalidArgumentError, match="ROOT_KEY_MISMATCH"):
        certify_request(
            record.csr,
            root().certificate,
            ec.generate_private_key(ec.SECP384R1()),
            scene.clock(),
            YEAR,
        )


def test_leaves_never_outlive_the_authority_that_issues(scene: Scene) -> None:
    record = scene.prepare()
    short = certify_request(
        record.csr, root().certificate, root().key, scene.clock(), timedelta(hours=3)
    )
    scene.install(record, short.public_bytes(Encoding.DER))
    scene.clock.move(hours=1)
    scene.activate(record.id)
    scene.renew(BANKS[0])
    assert scene.serials[BANKS[0]].not_after == short.not_valid_after_utc


def test_every_step_is_on_record(tmp_path: Path) -> None:
    books = Books()
    with books.transaction() as store:
        scene = Scene(tmp_path, store)
        scene.rotate()
        scene.taint(scene.first.id)
        scene.revoke(scene.first.id, force=True)
    actions = [event.action for event in books.events()]
    steps = [action for action in actions if action.startswith("authority.")]
    assert steps == [
        f"authority.{step}" for step in ("request", "install", "activate", "taint", "revoke")
    ]
