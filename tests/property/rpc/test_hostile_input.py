"""Hostile certificates, requests, revocation lists, names, tokens and errors: refused, by name.

Whatever bytes come in, the only exceptions are the project's own, so that nothing unforeseen
happens above; and a change of any signed byte is never accepted.
"""

import grpc
import pytest
from cryptography import x509
from finsecure_crypto.certificates import (
    Purpose,
    RevocationList,
    Role,
    SpiffeId,
    TrustAnchors,
    check_request,
    verify_certificate,
)
from finsecure_crypto.errors import AuthenticationError, FinSecureError, InvalidArgumentError
from finsecure_rpc.logs import REDACTED, redact
from finsecure_rpc.paging import decode_token, encode_token
from finsecure_rpc.requests import new_keys
from finsecure_rpc.status import from_wire
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.pki import TestAuthority, utc_now

PKI = TestAuthority()
ANCHORS = PKI.anchors
CREDENTIALS = PKI.credentials(PKI.spiffe_id("client", "bank-a"))
KEYS = new_keys()
CRL = PKI.crl(serials=[1, 2, 3])
NOW = utc_now()


def mutated(original: bytes):
    """Bytes near the original: some positions changed, some cut away or put in."""
    change = st.tuples(
        st.integers(0, len(original) - 1), st.integers(0, 255), st.sampled_from("scd")
    )

    def apply(changes):
        data = bytearray(original)
        for place, value, kind in changes:
            place = min(place, len(data) - 1)
            if kind == "s":
                data[place] = value
            elif kind == "c" and len(data) > 1:
                del data[place]
            else:
                data.insert(place, value)
        return bytes(data)

    return st.lists(change, min_size=1, max_size=4).map(apply)


@settings(max_examples=300, deadline=None)
@given(mutated(CREDENTIALS.tls_certificate) | st.binary(max_size=200))
def test_a_changed_certificate_is_never_accepted(der):
    assume(der != CREDENTIALS.tls_certificate)
    with pytest.raises(AuthenticationError):
        verify_certificate(der, ANCHORS, None, NOW, Purpose.TLS)


@settings(max_examples=200, deadline=None)
@given(mutated(CREDENTIALS.signing_certificate))
def test_a_changed_signing_certificate_is_never_accepted(der):
    assume(der != CREDENTIALS.signing_certificate)
    with pytest.raises(AuthenticationError):
        verify_certificate(der, ANCHORS, None, NOW, Purpose.SIGNING)


@settings(max_examples=200, deadline=None)
@given(mutated(PKI.intermediate.der) | mutated(PKI.root.der) | st.binary(max_size=100))
def test_a_changed_authority_is_never_accepted(der):
    assume(der not in (PKI.intermediate.der, PKI.root.der))
    with pytest.raises(AuthenticationError):
        TrustAnchors((PKI.root.der,), (der,))


@settings(max_examples=200, deadline=None)
@given(mutated(CRL) | st.binary(max_size=100))
def test_a_changed_revocation_list_is_never_accepted(der):
    assume(der != CRL)
    with pytest.raises(AuthenticationError):
        RevocationList.parse(der, ANCHORS, NOW)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(Purpose)), st.data())
def test_a_changed_request_is_never_accepted(purpose, data):
    original = KEYS.tls_csr if purpose is Purpose.TLS else KEYS.signing_csr
    der = data.draw(mutated(original) | st.binary(max_size=100))
    assume(der != original)
    with pytest.raises(InvalidArgumentError):
        check_request(der, purpose)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60).map(
                x509.UniformResourceIdentifier
            ),
            st.sampled_from(["a.b", "*.lending.finsecure.internal"]).map(x509.DNSName),
            st.just(x509.RFC822Name("a@b.c")),
            st.just(x509.UniformResourceIdentifier("spiffe://finsecure.internal/operator/al")),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_signed_certificates_with_any_other_names_are_refused(names):
    """Even the authority itself cannot be tricked into naming somebody twice or sideways."""
    from finsecure_crypto.certificates import leaf_extensions

    spiffe_id = PKI.spiffe_id("client", "bank-a")
    assume([n.value for n in names] != ["spiffe://finsecure.internal/operator/al"])
    assume([n.value for n in names] != [str(spiffe_id)])
    extensions = [
        (x509.SubjectAlternativeName(names), False)
        if isinstance(extension, x509.SubjectAlternativeName)
        else (extension, critical)
        for extension, critical in leaf_extensions(spiffe_id, Purpose.TLS)
    ]
    key = x509.load_der_x509_certificate(CREDENTIALS.tls_certificate).public_key()
    der = PKI.issue(spiffe_id, Purpose.TLS, key, extensions=extensions)
    with pytest.raises(AuthenticationError):
        verify_certificate(der, ANCHORS, None, NOW, Purpose.TLS)


IDS = st.from_regex(r"[a-z][a-z0-9-]{0,38}[a-z0-9]", fullmatch=True)
DOMAINS = st.lists(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True), min_size=1, max_size=4
).map(".".join)


@given(DOMAINS, st.sampled_from(list(Role)), IDS)
def test_spiffe_ids_come_back(domain, role, id_):
    spiffe_id = SpiffeId(domain, role, id_)
    assert SpiffeId.parse(str(spiffe_id)) == spiffe_id


@given(st.text() | st.text(alphabet="spifeclint:/.-a1%@?#\n\u2024\uff0f ").map("spiffe://".__add__))
def test_a_text_is_a_spiffe_id_in_one_spelling_only(text):
    try:
        parsed = SpiffeId.parse(text)
    except InvalidArgumentError:
        return
    assert str(parsed) == text
    assert text.isascii()
    assert text == text.lower()
    assert not set("%?#@ \n") & set(text)
    assert ".." not in text
    assert text.count("/") == 4


@given(st.text(max_size=600), st.text(max_size=20))
def test_page_tokens_never_surprise(token, scope):
    try:
        parts = decode_token(token, scope, (str, int))
    except InvalidArgumentError:
        return
    assert parts is None or [type(part) for part in parts] == [str, int]


@given(st.text(max_size=50), st.tuples(st.text(max_size=60), st.integers(-(2**63), 2**63 - 1)))
def test_page_tokens_come_back(scope, after):
    token = encode_token(scope, after)
    assume(len(token) <= 512)
    assert decode_token(token, scope, (str, int)) == after


@given(st.sampled_from([s for s in grpc.StatusCode if s.value[0]]), st.text(), st.binary())
def test_whatever_a_service_answers_becomes_an_error(status, details, rich):
    error = grpc.aio.AioRpcError(
        status,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", rich)),
        details,
        "",
    )
    translated = from_wire(error)
    assert isinstance(translated, FinSecureError)
    assert str(translated).isprintable()


@given(st.text(), st.text(), st.from_regex(r"[A-Za-z0-9_-]{24,64}", fullmatch=True))
def test_an_api_key_is_redacted_wherever_it_stands(before, after, secret):
    assume(not secret.startswith(("_", "-")))
    shown = redact({"text": [f"{before} fs_{secret} {after}"]})
    assert secret not in str(shown).replace(before, "").replace(after, "")
    assert REDACTED in str(shown)
