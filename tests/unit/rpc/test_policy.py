import asyncio
from datetime import timedelta

import pytest
from finsecure.aggregation.v1 import participation_pb2
from finsecure.keyservice.v1 import certificates_pb2, members_pb2
from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.errors import AuthenticationError, PermissionDeniedError
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.backoff import Backoff, jittered
from finsecure_rpc.open_streams import OpenStreams
from finsecure_rpc.peer import Peer, current_peer, require_peer, set_peer
from finsecure_rpc.policy import (
    ANYONE,
    Limits,
    Rate,
    domain_peers,
    federation_peers,
    methods_of,
    undeclared,
)
from finsecure_rpc.rate import RateLimiter

from tests.support.pki import TestAuthority, utc_now

DOMAIN = "finsecure.internal"
LENDING = f"lending.{DOMAIN}"


@pytest.mark.parametrize(
    ("spiffe_id", "by_federation", "by_domain"),
    [
        (SpiffeId(LENDING, Role.CLIENT, "bank-a"), True, True),
        (SpiffeId(LENDING, Role.AGGREGATOR, "main"), True, True),
        (SpiffeId(f"cards.{DOMAIN}", Role.CLIENT, "bank-a"), False, True),
        (SpiffeId(DOMAIN, Role.OPERATOR, "alice"), True, True),
        (SpiffeId(DOMAIN, Role.KEYSERVICE, "main"), True, True),
        (SpiffeId(LENDING, Role.OPERATOR, "alice"), False, False),
        (SpiffeId(DOMAIN, Role.CLIENT, "bank-a"), False, False),
        (SpiffeId("lending.other.internal", Role.CLIENT, "bank-a"), False, False),
        (SpiffeId("other.internal", Role.OPERATOR, "alice"), False, False),
        (SpiffeId(f"x.{LENDING}", Role.CLIENT, "bank-a"), False, False),
    ],
    ids=str,
)
def test_who_is_let_in(spiffe_id, by_federation, by_domain):
    assert federation_peers(LENDING)(spiffe_id) is by_federation
    assert domain_peers(DOMAIN)(spiffe_id) is by_domain


def test_forgotten_methods_are_found():
    methods = methods_of(certificates_pb2, members_pb2)
    assert "/finsecure.keyservice.v1.EnrolmentService/Enrol" in methods
    assert len(methods_of(participation_pb2)) == 8
    policy = dict.fromkeys(methods, ANYONE)
    assert undeclared(policy, certificates_pb2, members_pb2) == set()
    del policy["/finsecure.keyservice.v1.EnrolmentService/Enrol"]
    assert undeclared(policy, certificates_pb2) == {
        "/finsecure.keyservice.v1.EnrolmentService/Enrol"
    }


def test_limits():
    limits = Limits(deadlines={"/a/B": 5.0})
    assert limits.deadline_of("/a/B") == 5.0
    assert limits.deadline_of("/a/C") == 60.0
    for wrong in ((0, 1), (1, 0), (float("nan"), 1)):
        with pytest.raises(ValueError):
            Rate(*wrong)


def test_a_bucket_empties_and_fills():
    now = [0.0]
    limiter = RateLimiter(Rate(per_second=2, burst=3), lambda: now[0])
    assert [limiter.take("a") for _ in range(3)] == [0, 0, 0]
    assert limiter.take("a") == 0.5
    assert limiter.take("b") == 0
    now[0] += 0.25
    assert limiter.take("a") == 0.25  # asking too early costs nothing
    now[0] += 0.25
    assert limiter.take("a") == 0
    now[0] += 1000
    assert [limiter.take("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_buckets_are_bounded(monkeypatch):
    monkeypatch.setattr("finsecure_rpc.rate._MOST_BUCKETS", 10)
    limiter = RateLimiter(Rate(per_second=1, burst=1), lambda: 0.0)
    for number in range(100):
        limiter.take(str(number))
    assert len(limiter._buckets) == 10


def test_backoff_grows_to_its_ceiling():
    backoff = Backoff(1.0, 8.0)
    delays = [backoff.next_s() for _ in range(50)]
    for delay, ceiling in zip(delays, [1, 2, 4] + [8] * 47, strict=True):
        assert ceiling / 2 <= delay <= ceiling
    backoff.reset()
    assert backoff.next_s() <= 1.0
    assert all(90 <= jittered(100) <= 100 for _ in range(100))


async def test_the_peer_is_that_of_the_task():
    assert current_peer() is None
    with pytest.raises(AuthenticationError, match="CERTIFICATE_REQUIRED"):
        require_peer()

    async def served(id_):
        set_peer(Peer(SpiffeId(LENDING, Role.CLIENT, id_), 1, utc_now()))
        await asyncio.sleep(0)
        return require_peer().id, require_peer().role, require_peer().trust_domain

    results = await asyncio.gather(*(asyncio.create_task(served(f"bank-{c}")) for c in "abc"))
    assert results == [(f"bank-{c}", Role.CLIENT, LENDING) for c in "abc"]
    assert current_peer() is None


class TestAuthenticator:
    def make(self, pki, **options):
        options.setdefault("accepts", federation_peers(LENDING))
        return Authenticator(lambda: pki.anchors, pki, **options)

    def context(self, store):
        return {"x509_pem_cert": [store.current().tls_chain_pem]}

    def test_nobody_is_not_an_error(self):
        assert self.make(TestAuthority()).authenticate({}) is None
        assert self.make(TestAuthority()).authenticate({"x509_pem_cert": []}) is None

    def test_garbage_is_malformed(self):
        for pem in (b"", b"garbage", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"):
            with pytest.raises(AuthenticationError, match="CERTIFICATE_MALFORMED"):
                self.make(TestAuthority()).authenticate({"x509_pem_cert": [pem]})

    def test_time_and_revocation_are_checked_on_every_call(self, tmp_path):
        pki, now = TestAuthority(), [utc_now()]
        store = pki.enrol(tmp_path, "client", "bank-a")
        authenticator = self.make(pki, clock=lambda: now[0])
        context = self.context(store)
        assert authenticator.authenticate(context).spiffe_id.id == "bank-a"
        now[0] += timedelta(days=2)
        with pytest.raises(AuthenticationError, match="CERTIFICATE_EXPIRED"):
            authenticator.authenticate(context)
        now[0] -= timedelta(days=2)
        authenticator.authenticate(context)
        pki.revoke(store.current().certified.serial)
        with pytest.raises(AuthenticationError, match="CERTIFICATE_REVOKED"):
            authenticator.authenticate(context)

    def test_a_withdrawn_authority_ends_what_was_cached(self, tmp_path):
        pki = TestAuthority()
        store = pki.enrol(tmp_path, "client", "bank-a")
        other = TestAuthority()
        anchors = [pki.anchors]
        authenticator = Authenticator(lambda: anchors[0], pki, federation_peers(LENDING))
        authenticator.authenticate(self.context(store))
        anchors[0] = other.anchors
        with pytest.raises(AuthenticationError, match="CERTIFICATE_UNTRUSTED"):
            authenticator.authenticate(self.context(store))

    def test_a_stranger_is_refused_each_time(self, tmp_path):
        pki = TestAuthority()
        store = pki.enrol(tmp_path, "client", "bank-a", federation="cards")
        authenticator = self.make(pki)
        for _ in range(2):
            with pytest.raises(PermissionDeniedError, match="TRUST_DOMAIN_REFUSED"):
                authenticator.authenticate(self.context(store))


class TestOpenStreams:
    async def test_a_timeout_of_the_handler_itself_stays_one(self, tmp_path):
        pki = TestAuthority()
        caller = pki.enrol(tmp_path, "client", "bank-a").current().certified
        streams = OpenStreams(lambda _: None, 0.01, 64)
        with pytest.raises(TimeoutError):
            async with streams.watched(caller):
                raise TimeoutError

    async def test_only_the_stream_of_the_refused_caller_ends(self, tmp_path):
        pki = TestAuthority()
        one = pki.enrol(tmp_path / "a", "client", "bank-a").current().certified
        other = pki.enrol(tmp_path / "b", "client", "bank-b").current().certified
        refused = set()

        def recheck(caller):
            if caller.spiffe_id.id in refused:
                raise AuthenticationError("CERTIFICATE_REVOKED", "out")

        streams = OpenStreams(recheck, 0.01, 64)

        async def serve(caller):
            async with streams.watched(caller):
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(serve(caller)) for caller in (one, other)]
        await asyncio.sleep(0.05)
        refused.add("bank-a")
        with pytest.raises(AuthenticationError, match="CERTIFICATE_REVOKED"):
            await tasks[0]
        await asyncio.sleep(0.05)
        assert not tasks[1].done()
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
