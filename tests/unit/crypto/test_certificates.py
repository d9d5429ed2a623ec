"""The certificate profile: what is accepted, and every way in which a certificate can be bent."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from finsecure_crypto.certificates import (
    SIGNING_USAGE,
    Purpose,
    RevocationList,
    Role,
    SpiffeId,
    TrustAnchors,
    authority_extensions,
    check_request,
    leaf_extensions,
    verify_certificate,
)
from finsecure_crypto.errors import AuthenticationError, InvalidArgumentError

from tests.support.pki import TestAuthority, make_authority, utc_now

TLS_KEY = ec.generate_private_key(ec.SECP256R1())
SIGNING_KEY = ed25519.Ed25519PrivateKey.generate()
CLIENT = SpiffeId("lending.finsecure.internal", Role.CLIENT, "bank-a")
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def pki():
    return TestAuthority()


def issue(pki, spiffe_id=CLIENT, purpose=Purpose.TLS, key=None, **bent):
    key = key or (TLS_KEY if purpose is Purpose.TLS else SIGNING_KEY)
    return pki.issue(spiffe_id, purpose, key.public_key(), **bent)


def verify(pki, der, purpose=Purpose.TLS, revocations=None, now=None, anchors=None):
    return verify_certificate(der, anchors or pki.anchors, revocations, now or utc_now(), purpose)


def refused(code, pki, der, **options):
    with pytest.raises(AuthenticationError) as caught:
        verify(pki, der, **options)
    assert caught.value.code == code
    return caught.value


def bent(changes, spiffe_id=CLIENT, purpose=Purpose.TLS):
    """The extensions of the profile with some replaced (or left out, by None)."""
    kept = [
        (changes.get(type(extension), extension), critical)
        for extension, critical in leaf_extensions(spiffe_id, purpose)
    ]
    return [(extension, critical) for extension, critical in kept if extension is not None]


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("role", list(Role))
def test_every_role_has_both_certificates(pki, role, purpose):
    spiffe_id = pki.spiffe_id(role, "main")
    certified = verify(pki, issue(pki, spiffe_id, purpose), purpose)
    assert certified.spiffe_id == spiffe_id
    if purpose is Purpose.SIGNING:
        assert certified.public_key == SIGNING_KEY.public_key().public_bytes_raw()
    else:
        assert certified.public_key == TLS_KEY.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )


def test_a_certificate_serves_one_purpose_only(pki):
    refused("CERTIFICATE_MALFORMED", pki, issue(pki), purpose=Purpose.SIGNING)
    signing = issue(pki, purpose=Purpose.SIGNING)
    refused("CERTIFICATE_MALFORMED", pki, signing, purpose=Purpose.TLS)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 2048),
        SIGNING_KEY,
    ],
    ids=["P-384", "secp256k1", "RSA", "Ed25519"],
)
def test_a_tls_key_on_another_curve_is_refused(pki, key):
    refused("CERTIFICATE_MALFORMED", pki, issue(pki, key=key))


def uris(*values):
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(v) for v in values])


def usage(**on):
    names = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ]
    return x509.KeyUsage(**{name: on.get(name, False) for name in names})


@pytest.mark.parametrize(
    "changes",
    {
        "no name": {x509.SubjectAlternativeName: None},
        "no URI": {
            x509.SubjectAlternativeName: x509.SubjectAlternativeName([x509.DNSName("bank-a")])
        },
        "two names": {x509.SubjectAlternativeName: uris(str(CLIENT), str(CLIENT))},
        "another scheme": {x509.SubjectAlternativeName: uris("https://lending/client/bank-a")},
        "path trick": {
            x509.SubjectAlternativeName: uris(
                "spiffe://lending.finsecure.internal/operator/../client/bank-a"
            )
        },
        "an address too": {
            x509.SubjectAlternativeName: x509.SubjectAlternativeName(
                [
                    x509.UniformResourceIdentifier(str(CLIENT)),
                    x509.DNSName("aggregator.lending.finsecure.internal"),
                ]
            )
        },
        "an authority": {x509.BasicConstraints: x509.BasicConstraints(ca=True, path_length=None)},
        "no constraints": {x509.BasicConstraints: None},
        "no key usage": {x509.KeyUsage: None},
        "signs certificates": {x509.KeyUsage: usage(digital_signature=True, key_cert_sign=True)},
        "signs nothing": {x509.KeyUsage: usage(key_agreement=True)},
        "no extended usage": {x509.ExtendedKeyUsage: None},
        "serves": {
            x509.ExtendedKeyUsage: x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            )
        },
        "any usage": {
            x509.ExtendedKeyUsage: x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]
            )
        },
        "signs too": {
            x509.ExtendedKeyUsage: x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.CLIENT_AUTH, SIGNING_USAGE]
            )
        },
    }.items(),
    ids=lambda item: item[0],
)
def test_a_bent_extension_is_refused(pki, changes):
    refused("CERTIFICATE_MALFORMED", pki, issue(pki, extensions=bent(changes[1])))


def test_an_unknown_critical_extension_is_refused_and_others_are_not(pki):
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    extensions = leaf_extensions(CLIENT, Purpose.TLS)
    verify(pki, issue(pki, extensions=[*extensions, (strange, False)]))
    der = issue(pki, extensions=[*extensions, (strange, True)])
    refused("CERTIFICATE_MALFORMED", pki, der)


def test_constraints_that_are_not_critical_are_refused(pki):
    extensions = [(extension, False) for extension, _ in leaf_extensions(CLIENT, Purpose.TLS)]
    refused("CERTIFICATE_MALFORMED", pki, issue(pki, extensions=extensions))


@pytest.mark.parametrize(
    "spiffe_id",
    [
        SpiffeId("lending.other.internal", Role.CLIENT, "bank-a"),
        SpiffeId("finsecure.internal", Role.CLIENT, "bank-a"),
        SpiffeId("a.b.finsecure.internal", Role.CLIENT, "bank-a"),
        SpiffeId("lending.finsecure.internal", Role.OPERATOR, "alice"),
        SpiffeId("evilfinsecure.internal", Role.OPERATOR, "alice"),
        SpiffeId("internal", Role.KEYSERVICE, "main"),
    ],
    ids=str,
)
def test_a_name_outside_the_domain_is_refused(pki, spiffe_id):
    refused("CERTIFICATE_UNTRUSTED", pki, issue(pki, spiffe_id))


def test_time_is_checked_at_every_link(pki):
    der = issue(pki)
    certified = verify(pki, der)
    refused("CERTIFICATE_EXPIRED", pki, der, now=certified.not_after + timedelta(seconds=1))
    refused("CERTIFICATE_EXPIRED", pki, der, now=certified.not_before - timedelta(seconds=1))
    verify(pki, der, now=certified.not_after)
    long_lived = issue(pki, not_before=utc_now() - 30 * DAY, not_after=utc_now() + 3000 * DAY)
    error = refused("CERTIFICATE_EXPIRED", pki, long_lived, now=utc_now() + 366 * DAY)
    assert "intermediate" in error.message
    refused("CERTIFICATE_EXPIRED", pki, long_lived, now=utc_now() - 2 * DAY)


def test_a_certificate_does_not_outlive_its_authority(pki):
    end = (utc_now() + timedelta(hours=1)).replace(microsecond=0)
    short = make_authority("short", pki.domain, pki.root, not_after=end)
    anchors = TrustAnchors((pki.root.der,), (short.der,))
    certified = verify(pki, issue(pki, issuer=short), anchors=anchors)
    assert certified.not_after == end  # so whoever keeps the result checks that too


def test_an_expired_root_ends_its_chain():
    pki = TestAuthority()
    root = make_authority("short", pki.domain, None, not_after=utc_now() - timedelta(hours=1))
    intermediate = make_authority("i", pki.domain, root)
    anchors = TrustAnchors((root.der,), (intermediate.der,))
    der = issue(pki, issuer=intermediate)
    error = refused("CERTIFICATE_EXPIRED", pki, der, anchors=anchors)
    assert "root" in error.message


def test_a_certificate_of_somebody_else_is_refused(pki):
    refused("CERTIFICATE_UNTRUSTED", pki, issue(TestAuthority()))  # same names, other keys
    refused("CERTIFICATE_UNTRUSTED", pki, issue(pki, issuer=pki.root))  # not by an intermediate
    member = make_authority("member", pki.domain, pki.intermediate)
    refused("CERTIFICATE_UNTRUSTED", pki, issue(pki, issuer=member))


def test_a_flipped_bit_is_refused(pki):
    der = bytearray(issue(pki))
    der[-1] ^= 1
    refused("CERTIFICATE_UNTRUSTED", pki, bytes(der))


@pytest.mark.parametrize("der", [b"", b"\x30", b"garbage" * 10, bytes(9000)])
def test_garbage_is_malformed(pki, der):
    refused("CERTIFICATE_MALFORMED", pki, der)


def test_an_unknown_version_is_malformed(pki):
    der = bytearray(issue(pki))
    place = der.index(b"\xa0\x03\x02\x01\x02") + 4
    for version in (0, 1, 3, 0x7F):
        der[place] = version
        refused("CERTIFICATE_MALFORMED", pki, bytes(der))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_negative_serial_number_is_malformed(pki):
    serial = 0x7F112233445566778899AABBCCDDEEFF
    der = issue(pki, serial=serial)
    negative = der.replace(serial.to_bytes(16), b"\xff" + serial.to_bytes(16)[1:])
    assert negative != der
    refused("CERTIFICATE_MALFORMED", pki, negative)


def test_trailing_bytes_are_malformed(pki):
    refused("CERTIFICATE_MALFORMED", pki, issue(pki) + b"\0")


def test_a_weak_hash_is_refused(pki):
    # SHA-1 cannot be made any more by the library; SHA-512 is merely not in the profile.
    refused("CERTIFICATE_MALFORMED", pki, issue(pki, hash_algorithm=hashes.SHA512()))


def test_two_intermediates_are_believed_during_a_rotation(pki):
    second = make_authority("second", pki.domain, pki.root)
    anchors = TrustAnchors((pki.root.der,), (pki.intermediate.der, second.der))
    verify(pki, issue(pki), anchors=anchors)
    verify(pki, issue(pki, issuer=second), anchors=anchors)
    refused("CERTIFICATE_UNTRUSTED", pki, issue(pki, issuer=second))


class TestAnchors:
    def test_the_domain_is_that_of_the_root(self, pki):
        assert pki.anchors.domain == "finsecure.internal"
        assert TrustAnchors((pki.root.der,), ()).domain == "finsecure.internal"

    def test_an_intermediate_of_another_root_is_refused(self, pki):
        with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
            TrustAnchors((pki.root.der,), (TestAuthority().intermediate.der,))

    def test_an_intermediate_is_no_root(self, pki):
        with pytest.raises(AuthenticationError, match="CERTIFICATE_"):
            TrustAnchors((pki.intermediate.der,), ())

    def test_a_leaf_is_no_intermediate(self, pki):
        with pytest.raises(AuthenticationError, match="CERTIFICATE_MALFORMED"):
            TrustAnchors((pki.root.der,), (issue(pki),))

    def test_roots_of_two_domains_are_refused(self, pki):
        other = make_authority("other", "other.internal", None)
        with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
            TrustAnchors((pki.root.der, other.der), ())
        foreign = make_authority("foreign", "other.internal", pki.root)
        with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
            TrustAnchors((pki.root.der,), (foreign.der,))

    def test_no_roots_are_refused(self):
        with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
            TrustAnchors((), ())

    @pytest.mark.parametrize(
        "extensions",
        [
            [],
            authority_extensions("finsecure.internal", 1)[:2],
            [*authority_extensions("finsecure.internal", 1)[:2], (uris("https://x.y"), False)],
            [*authority_extensions("finsecure.internal", 1)[:2], (uris("spiffe://x.y/a"), False)],
            [(e, False) for e, _ in authority_extensions("finsecure.internal", 1)],
            authority_extensions("finsecure.internal", 0),  # could not have an intermediate
        ],
    )
    def test_a_root_outside_the_profile_is_refused(self, extensions):
        root = make_authority(
            "root",
            "finsecure.internal",
            None,
            extensions=extensions or [(x509.BasicConstraints(ca=True, path_length=1), True)],
        )
        with pytest.raises(AuthenticationError, match="CERTIFICATE_MALFORMED"):
            TrustAnchors((root.der,), ())

    def test_an_intermediate_that_may_have_children_is_refused(self, pki):
        deep = make_authority(
            "deep", pki.domain, pki.root, extensions=authority_extensions(pki.domain, 1)
        )
        with pytest.raises(AuthenticationError, match="CERTIFICATE_MALFORMED"):
            TrustAnchors((pki.root.der,), (deep.der,))


class TestRevocation:
    def test_a_revoked_certificate_is_refused_and_names_its_holder(self, pki):
        der = issue(pki)
        certified = verify(pki, der)
        fresh = RevocationList.parse(pki.crl(serials=[certified.serial]), pki.anchors, utc_now())
        error = refused("CERTIFICATE_REVOKED", pki, der, revocations=fresh)
        assert error.culprit == "bank-a"
        other = RevocationList.parse(
            pki.crl(serials=[certified.serial + 1]), pki.anchors, utc_now()
        )
        verify(pki, der, revocations=other)

    def test_a_stale_list_fails_closed(self, pki):
        fresh = RevocationList.parse(pki.crl(), pki.anchors, utc_now())
        later = fresh.next_update + timedelta(seconds=1)
        refused("REVOCATION_LIST_STALE", pki, issue(pki), revocations=fresh, now=later)
        with pytest.raises(AuthenticationError, match="REVOCATION_LIST_STALE"):
            RevocationList.parse(fresh.der, pki.anchors, later)

    def test_a_list_of_somebody_else_is_refused(self, pki):
        with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
            RevocationList.parse(TestAuthority().crl(), pki.anchors, utc_now())
        with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
            RevocationList.parse(pki.crl(signer=pki.root), pki.anchors, utc_now())

    def test_a_changed_list_is_refused(self, pki):
        der = bytearray(pki.crl(serials=[1, 2, 3]))
        der[-1] ^= 1
        with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
            RevocationList.parse(bytes(der), pki.anchors, utc_now())

    def test_a_list_without_number_or_of_garbage_is_malformed(self, pki):
        now = utc_now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(pki.intermediate.certificate.subject)
            .last_update(now)
            .next_update(now + DAY)
        )
        numberless = builder.sign(pki.intermediate.key, hashes.SHA256())
        for der in (numberless.public_bytes(Encoding.DER), b"garbage", b""):
            with pytest.raises(AuthenticationError, match="CERTIFICATE_MALFORMED"):
                RevocationList.parse(der, pki.anchors, now)


class TestRequests:
    def request(self, key, algorithm):
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(key, algorithm).public_bytes(Encoding.DER)

    def test_both_kinds_of_request_give_their_key(self):
        tls = check_request(self.request(TLS_KEY, hashes.SHA256()), Purpose.TLS)
        assert tls == TLS_KEY.public_key()
        signing = check_request(self.request(SIGNING_KEY, None), Purpose.SIGNING)
        assert signing == SIGNING_KEY.public_key()

    def test_a_request_that_is_not_signed_by_its_key_is_refused(self):
        for key, algorithm, purpose in (
            (TLS_KEY, hashes.SHA256(), Purpose.TLS),
            (SIGNING_KEY, None, Purpose.SIGNING),
        ):
            der = bytearray(self.request(key, algorithm))
            der[-1] ^= 1
            with pytest.raises(InvalidArgumentError, match="REQUEST_UNPROVEN"):
                check_request(bytes(der), purpose)

    @pytest.mark.parametrize(
        "key",
        [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())],
        ids=["RSA", "P-384"],
    )
    @pytest.mark.parametrize("purpose", list(Purpose))
    def test_another_algorithm_is_refused(self, key, purpose):
        with pytest.raises(InvalidArgumentError, match="REQUEST_ALGORITHM"):
            check_request(self.request(key, hashes.SHA256()), purpose)

    def test_the_purposes_do_not_mix(self):
        with pytest.raises(InvalidArgumentError, match="REQUEST_ALGORITHM"):
            check_request(self.request(SIGNING_KEY, None), Purpose.TLS)
        with pytest.raises(InvalidArgumentError, match="REQUEST_ALGORITHM"):
            check_request(self.request(TLS_KEY, hashes.SHA256()), Purpose.SIGNING)

    @pytest.mark.parametrize("der", [b"", b"garbage", bytes(9000)])
    def test_garbage_is_malformed(self, der):
        with pytest.raises(InvalidArgumentError, match="REQUEST_MALFORMED"):
            check_request(der, Purpose.TLS)


class TestSpiffeId:
    def test_it_reads_what_it_writes(self):
        assert SpiffeId.parse(str(CLIENT)) == CLIENT
        assert SpiffeId.parse("spiffe://a.b/operator/alice").role is Role.OPERATOR

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "spiffe://",
            "spiffe://a.b/client",
            "spiffe://a.b/client/",
            "spiffe://a.b//client/bank-a",
            "spiffe://a.b/client/bank-a/",
            "spiffe://a.b/client/bank-a/x",
            "spiffe://a.b/client/bank-a\n",
            " spiffe://a.b/client/bank-a",
            "SPIFFE://a.b/client/bank-a",
            "spiffe://A.b/client/bank-a",
            "spiffe://a.b:443/client/bank-a",
            "spiffe://user@a.b/client/bank-a",
            "spiffe://a.b/client/bank-a?x=1",
            "spiffe://a.b/client/bank-a#x",
            "spiffe://a.b/client/..",
            "spiffe://a.b/client/bank%2Da",
            "spiffe://a.b/Client/bank-a",
            "spiffe://a.b/auditor/bank-a",
            "spiffe://a.b/client/a",
            "spiffe://a.b/client/-a",
            "spiffe://a.b/client/a-",
            "spiffe://a.b/client/1a",
            "spiffe://a.b/client/bank_a",
            "spiffe://a.b/client/*",
            "spiffe://a..b/client/bank-a",
            "spiffe://.a/client/bank-a",
            "spiffe://-a.b/client/bank-a",
            "spiffe://a.b/client/bänk",
            "spiffe://a.b/client/bank-\u0661",
            "spiffe://a.b/client/" + "a" * 41,
            "spiffe://" + "a" * 64 + ".b/client/bank-a",
            "spiffe://" + ".".join(["abcdefgh"] * 40) + "/client/bank-a",
        ],
    )
    def test_every_other_spelling_is_refused(self, text):
        with pytest.raises(InvalidArgumentError) as caught:
            SpiffeId.parse(text)
        assert caught.value.code == "SPIFFE_ID_INVALID"

    def test_it_cannot_be_made_wrong(self):
        with pytest.raises(InvalidArgumentError):
            SpiffeId("a.b/client/x", Role.CLIENT, "bank-a")
        with pytest.raises(InvalidArgumentError):
            SpiffeId("a.b", Role.CLIENT, "bank-a/../bank-b")
