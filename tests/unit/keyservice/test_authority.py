"""The authority: what it issues passes the strict verification of everybody else."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.certificates import (
    Purpose,
    RevocationList,
    Role,
    SpiffeId,
    verify_certificate,
)
from finsecure_crypto.errors import AuthenticationError, StateError
from finsecure_crypto.intermediate import BACKDATE
from finsecure_keyservice.authority import Revoked, Root, fingerprint

from tests.support.keyservice import DOMAIN, START, authority, root

HOUR = timedelta(hours=1)
CLIENT = SpiffeId(f"lending.{DOMAIN}", Role.CLIENT, "bank-1")
AGGREGATOR = SpiffeId(f"lending.{DOMAIN}", Role.AGGREGATOR, "main")


def _key(purpose: Purpose) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    if purpose is Purpose.TLS:
        return ec.generate_private_key(ec.SECP256R1()).public_key()
    return ed25519.Ed25519PrivateKey.generate().public_key()


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("role", Role)
def test_issued_certificates_are_accepted_for_their_purpose_only(
    role: Role, purpose: Purpose
) -> None:
    trust_domain = f"lending.{DOMAIN}" if role.federated else DOMAIN
    identity = SpiffeId(trust_domain, role, "some-id")
    certificate = authority().issue(identity, purpose, _key(purpose), START, 24 * HOUR)
    der = certificate.public_bytes(Encoding.DER)
    certified = verify_certificate(der, authority().anchors, None, START, purpose)
    assert certified.spiffe_id == identity
    assert certified.serial == certificate.serial_number
    other = Purpose.SIGNING if purpose is Purpose.TLS else Purpose.TLS
    with pytest.raises(AuthenticationError):
        verify_certificate(der, authority().anchors, None, START, other)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [str(identity)]
    dns = names.value.get_values_for_type(x509.DNSName)
    serves = purpose is Purpose.TLS and role in (Role.AGGREGATOR, Role.TRUSTEE, Role.KEYSERVICE)
    assert dns == ([f"{role.value}.{trust_domain}"] if serves else [])
    assert names.critical
    assert certificate.subject == x509.Name([])


def test_receivers_with_clocks_ten_minutes_off_accept_at_once() -> None:
    certificate = authority().issue(CLIENT, Purpose.TLS, _key(Purpose.TLS), START, HOUR)
    der = certificate.public_bytes(Encoding.DER)
    crl = authority().revocation_list([], 1, START, HOUR).public_bytes(Encoding.DER)
    for skew in (-BACKDATE, timedelta(0), BACKDATE):
        now = START + skew
        revocations = RevocationList.parse(crl, authority().anchors, now)
        verify_certificate(der, authority().anchors, revocations, now, Purpose.TLS)
    for far in (-BACKDATE - timedelta(seconds=2), HOUR + timedelta(seconds=1)):
        with pytest.raises(AuthenticationError, match="CERTIFICATE_EXPIRED"):
            verify_certificate(der, authority().anchors, None, START + far, Purpose.TLS)


def test_nothing_outlives_its_issuer() -> None:
    brief = Root.create(DOMAIN, START, 10 * HOUR)
    intermediate = brief.create_intermediate(START, 20 * HOUR)
    assert intermediate.certificate.not_valid_after_utc == brief.certificate.not_valid_after_utc
    later = START + 9 * HOUR
    leaf = intermediate.issue(CLIENT, Purpose.TLS, _key(Purpose.TLS), later, 24 * HOUR)
    assert leaf.not_valid_after_utc == intermediate.certificate.not_valid_after_utc
    early = intermediate.issue(CLIENT, Purpose.TLS, _key(Purpose.TLS), START, HOUR)
    assert early.not_valid_before_utc >= intermediate.certificate.not_valid_before_utc
    with pytest.raises(StateError, match="AUTHORITY_EXPIRED"):
        intermediate.issue(CLIENT, Purpose.TLS, _key(Purpose.TLS), START + 10 * HOUR, HOUR)


def test_serial_numbers_are_long_and_random() -> None:
    serials = {
        authority().issue(CLIENT, Purpose.TLS, _key(Purpose.TLS), START, HOUR).serial_number
        for _ in range(32)
    }
    assert len(serials) == 32
    # 159 random bits: the chance that all of 32 are below 2^128 is 2^-992.
    assert max(serials).bit_length() > 128
    assert all(0 < serial < 1 << 160 for serial in serials)


def test_authorities_are_of_the_promised_kind() -> None:
    key = root().certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP384R1)
    key = authority().certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert authority().anchors.domain == DOMAIN
    depth = authority().certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert depth.value.path_length == 0
    assert fingerprint(root().certificate).replace(":", "") == (
        root().certificate.fingerprint(hashes.SHA256()).hex()
    )


def test_revocation_list_names_the_revoked_and_ends() -> None:
    signed = authority().revocation_list([Revoked(77, START)], 5, START, HOUR)
    der = signed.public_bytes(Encoding.DER)
    revocations = RevocationList.parse(der, authority().anchors, START)
    assert revocations.number == 5
    assert revocations.serials == {77}
    assert revocations.this_update <= START - BACKDATE  # slow clocks do not find it in the future
    with pytest.raises(AuthenticationError, match="REVOCATION_LIST_STALE"):
        RevocationList.parse(der, authority().anchors, START + 2 * HOUR)


def test_another_domains_authority_is_not_believed() -> None:
    other = Root.create(DOMAIN, START, HOUR).create_intermediate(START, HOUR)
    leaf = other.issue(AGGREGATOR, Purpose.TLS, _key(Purpose.TLS), START, HOUR)
    with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
        verify_certificate(
            leaf.public_bytes(Encoding.DER), authority().anchors, None, START, Purpose.TLS
        )
