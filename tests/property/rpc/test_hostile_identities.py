"""Names and requests made to be read in two ways: one spelling counts, all others are out."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.certificates import (
    Purpose,
    Role,
    SpiffeId,
    check_request,
    leaf_extensions,
    verify_certificate,
)
from finsecure_crypto.errors import AuthenticationError, InvalidArgumentError
from finsecure_crypto.intermediate import certify_request
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.pki import TestAuthority, utc_now

GOOD = "spiffe://lending.finsecure.internal/client/bank-a"
PKI = TestAuthority()
KEY = ec.generate_private_key(ec.SECP256R1())

TRICKS = [
    GOOD.upper(),
    GOOD.replace("spiffe", "SPIFFE"),
    GOOD.replace("spiffe", "https"),
    GOOD + "/",
    GOOD + "/.",
    GOOD + "//",
    GOOD + "?role=operator",
    GOOD + "#operator",
    GOOD + "%00",
    GOOD + "\x00",
    GOOD + "\n",
    GOOD + " ",
    " " + GOOD,
    GOOD + "\u200b",
    GOOD.replace("bank-a", "bank-\u0430"),  # a Cyrillic letter
    GOOD.replace("bank-a", "bank_a"),
    GOOD.replace("bank-a", "-bank"),
    GOOD.replace("bank-a", "bank-"),
    GOOD.replace("bank-a", "b" * 41),
    GOOD.replace("bank-a", ""),
    GOOD.replace("client/bank-a", "client"),
    GOOD.replace("client", "client/../operator"),
    GOOD.replace("client", "./client"),
    GOOD.replace("client", "%6fperator"),
    GOOD.replace("client", "operator/client"),
    GOOD.replace("client", "admin"),
    GOOD.replace("client", "Client"),
    GOOD.replace("//", "///"),
    GOOD.replace("//", "/"),
    GOOD.replace("lending", "user@lending"),
    GOOD.replace("internal", "internal:443"),
    GOOD.replace("internal", "internal."),
    GOOD.replace("lending.", "lending.."),
    GOOD.replace("lending", "-lending"),
    GOOD.replace("lending", "l\u00e9nding"),
    GOOD.replace("lending", "[::1]"),
    GOOD.replace("lending.finsecure.internal", "l" * 300),
    "spiffe://",
    "",
]


@pytest.mark.parametrize("text", TRICKS)
def test_only_one_spelling_of_a_name_is_accepted(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="SPIFFE_ID_INVALID"):
        SpiffeId.parse(text)


@settings(max_examples=100)
@given(st.text(max_size=80) | st.sampled_from(TRICKS).flatmap(lambda t: st.just(t + "/x")))
def test_whatever_is_a_name_is_written_as_it_was_read(text: str) -> None:
    try:
        parsed = SpiffeId.parse(text)
    except InvalidArgumentError:
        return
    assert str(parsed) == text


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([t for t in TRICKS if t.isascii() and t.isprintable()]),
    st.sampled_from(list(Purpose)),
)
def test_tricks_in_a_certificate_that_the_authority_itself_signed(
    text: str, purpose: Purpose
) -> None:
    sound = PKI.spiffe_id("client", "bank-a")
    extensions = [
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(text)]), True)
        if isinstance(extension, x509.SubjectAlternativeName)
        else (extension, critical)
        for extension, critical in leaf_extensions(sound, purpose)
    ]
    key = (
        KEY.public_key()
        if purpose is Purpose.TLS
        else ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key()
    )
    der = PKI.issue(sound, purpose, key, extensions=extensions)
    with pytest.raises(AuthenticationError):
        verify_certificate(der, PKI.anchors, None, utc_now(), purpose)


def test_people_live_above_the_federations_and_members_in_one() -> None:
    for role in Role:
        here = f"lending.{PKI.domain}" if role.federated else PKI.domain
        elsewhere = PKI.domain if role.federated else f"lending.{PKI.domain}"
        for domain, believed in ((here, True), (elsewhere, False), (f"a.b.{PKI.domain}", False)):
            sound = SpiffeId(domain, role, "some-one")
            der = PKI.issue(sound, Purpose.TLS, KEY.public_key())
            if believed:
                found = verify_certificate(der, PKI.anchors, None, utc_now(), Purpose.TLS)
                assert found.spiffe_id == sound
            else:
                with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
                    verify_certificate(der, PKI.anchors, None, utc_now(), Purpose.TLS)


def _request(*extensions: x509.ExtensionType, subject: str = "", key=KEY) -> bytes:
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_what_a_request_asks_for_beside_its_key_is_not_heard() -> None:
    greedy = _request(
        x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier("spiffe://finsecure.internal/officer/mallory")]
        ),
        x509.BasicConstraints(ca=True, path_length=5),
        subject="officer",
    )
    assert check_request(greedy, Purpose.TLS) == KEY.public_key()
    root = PKI.root
    made = certify_request(greedy, root.certificate, root.key, utc_now(), PKI.crl_lifetime)
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.path_length == 0
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{PKI.domain}"]


SOUND = _request()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(SOUND) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_the_root_signs_no_request_that_was_changed(place: int, put: bytes, cut: int) -> None:
    changed = SOUND[:place] + put + SOUND[place + cut :]
    assume(changed != SOUND)
    with pytest.raises(InvalidArgumentError):
        certify_request(changed, PKI.root.certificate, PKI.root.key, utc_now(), PKI.crl_lifetime)
