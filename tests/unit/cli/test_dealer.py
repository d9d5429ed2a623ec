"""What goes to the dealer and comes back: checked before a share is sealed, and read strictly."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from finsecure_cli import dealer
from finsecure_cli.dealer import Cards, DealtKey
from finsecure_crypto import sealing
from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import AuthenticationError, ConfigurationError, FinSecureError
from finsecure_crypto.homomorphic.ceremony import TrusteeCard, dealt_share_context
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.paillier import dealer as paillier_dealer
from finsecure_crypto.homomorphic.registry import load_key, load_share

from tests.support.paillier import dealt
from tests.support.pki import TestAuthority, utc_now

NAME = "federations/lending/encryptionKeys/first"
TRUSTEES = ("north", "south", "west")


@pytest.fixture
def pki() -> TestAuthority:
    return TestAuthority()


def cards(pki: TestAuthority, pairs: list[KeyPair]) -> Cards:
    made = []
    for trustee, pair in zip(TRUSTEES, pairs, strict=True):
        owned = pki.credentials(pki.spiffe_id(Role.TRUSTEE, trustee))
        made.append(
            TrusteeCard.sign(trustee, pair.public, owned.signing_key, owned.signing_certificate)
        )
    return Cards(f"lending.{pki.domain}", pki.anchors.intermediates, pki.current().der, tuple(made))


@pytest.fixture
def pairs() -> list[KeyPair]:
    return [KeyPair.generate() for _ in TRUSTEES]


def test_each_share_is_sealed_to_its_trustee_and_to_nobody_else(
    pki: TestAuthority, pairs: list[KeyPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paillier_dealer, "deal", lambda bits, holders, threshold: dealt(bits))
    cards(pki, pairs).write(tmp_path / "cards.json")
    taken = Cards.read(tmp_path / "cards.json")
    taken.verify(pki.root.pem, utc_now())
    dealer.deal(NAME, 2048, 2, taken).write(tmp_path / "dealt.json")
    back = DealtKey.read(tmp_path / "dealt.json")
    key = load_key(Mode.PAILLIER, back.public_key)
    for holder, (sealed, pair) in enumerate(zip(back.shares, pairs, strict=True), 1):
        context = dealt_share_context(NAME, key.digest(), holder, sealed.trustee)
        share = load_share(Mode.PAILLIER, sealing.open_sealed(pair, sealed.sealed, context))
        assert share.holder == holder
        for other in pairs:
            if other is not pair:
                with pytest.raises(FinSecureError):
                    sealing.open_sealed(other, sealed.sealed, context)
    text = (tmp_path / "dealt.json").read_text()
    assert json.loads(text)["generation"] == "dealer"
    assert dealt(2048).shares[0].secret.expose().hex() not in text


def test_a_card_that_is_not_a_trustees_gets_no_share(
    pki: TestAuthority, pairs: list[KeyPair]
) -> None:
    good = cards(pki, pairs)
    card = good.cards[0]
    client = pki.credentials(pki.spiffe_id(Role.CLIENT, "north"))
    impostor = TrusteeCard.sign(
        "north", pairs[0].public, client.signing_key, client.signing_certificate
    )
    swapped = TrusteeCard("north", pairs[1].public, card.signature, card.certificate)
    for wrong in (impostor, swapped):
        bent = Cards(
            good.trust_domain,
            good.intermediates,
            good.revocation_list,
            (wrong, *good.cards[1:]),
        )
        with pytest.raises(FinSecureError):
            bent.verify(pki.root.pem, utc_now())
    with pytest.raises(AuthenticationError):
        good.verify(TestAuthority().root.pem, utc_now())
    with pytest.raises(AuthenticationError):
        good.verify(pki.root.pem, utc_now() + timedelta(days=30))
    pki.revoke(x509.load_der_x509_certificate(card.certificate).serial_number)
    revoked = Cards(good.trust_domain, good.intermediates, pki.current().der, good.cards)
    with pytest.raises(AuthenticationError) as caught:
        revoked.verify(pki.root.pem, utc_now())
    assert caught.value.code == "CERTIFICATE_REVOKED"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"trust_domain": "x", "intermediates": [1]}', "\xff", "[" * 10_000],
)
@pytest.mark.parametrize("kind", [Cards, DealtKey])
def test_damaged_files_are_named(
    tmp_path: Path, kind: type[Cards] | type[DealtKey], text: str
) -> None:
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        kind.read(tmp_path / "file.json")
    assert caught.value.code == "CEREMONY_FILE_DAMAGED"


def test_nothing_is_overwritten(pki: TestAuthority, pairs: list[KeyPair], tmp_path: Path) -> None:
    (tmp_path / "cards.json").touch()
    with pytest.raises(FileExistsError):
        cards(pki, pairs).write(tmp_path / "cards.json")
