"""Whatever bytes come as a request or an API key, the answer is a named refusal."""

from functools import cache

from finsecure_crypto.errors import AuthenticationError, FinSecureError, InvalidArgumentError
from finsecure_keyservice.admission_keys import ApiKey
from finsecure_keyservice.enrolment import Requests
from finsecure_keyservice.federations import create_federation
from finsecure_keyservice.members import create_member
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.keyservice import START, Books, enrolment, issuer, requests

BANK = "federations/lending/clients/bank-1"


@cache
def _good() -> Requests:
    return requests()


@st.composite
def mutations(draw: st.DrawFn) -> Requests:
    """One or more bytes of good requests changed, removed or added."""
    parts = [bytearray(_good().tls), bytearray(_good().signing)]
    for _ in range(draw(st.integers(1, 4))):
        part = parts[draw(st.integers(0, 1))]
        at = draw(st.integers(0, len(part) - 1))
        end = at + draw(st.integers(0, 3))
        part[at:end] = draw(st.binary(max_size=3))
    return Requests(bytes(parts[0]), bytes(parts[1]))


@settings(max_examples=300, deadline=None)
@given(mutations() | st.builds(Requests, st.binary(max_size=200), st.binary(max_size=200)))
def test_changed_requests_never_get_a_certificate(asked: Requests) -> None:
    books = Books()
    with books.transaction() as store:
        create_federation(store, "federations/lending", "", START)
        key = create_member(store, issuer(), BANK, "", START)[1].expose()
    try:
        with books.transaction() as store:
            enrolment().enrol(store, key, asked, START)
    except FinSecureError as error:
        assert isinstance(error, InvalidArgumentError)  # noqa: PT017
        with books.transaction() as store:
            assert not store.certificates("", None, 1)
    else:
        assert asked == _good()  # the changes undid one another


@given(st.text(max_size=100) | st.from_regex(r"fs_[0-9a-f]{16}_[A-Za-z0-9_-]{43}_[0-9a-f]{8}"))
def test_text_that_is_no_api_key_is_refused(text: str) -> None:
    try:
        key = ApiKey.parse(text)
    except AuthenticationError as error:
        assert error.code == "API_KEY_MALFORMED"  # noqa: PT017
    else:
        assert key.expose() == text.strip()
