"""A member follows the minimum cohorts of its federation: verified, remembered, never back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import (
    ConfigurationError,
    IntegrityError,
    InternalError,
    PermissionDeniedError,
    PolicyError,
    ResourceExhaustedError,
    UnavailableError,
)
from finsecure_crypto.minimum_cohorts import MinimumCohorts
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.federation_minima import FederationMinima
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.log_memory import LogMemory

from tests.support.pki import TestAuthority
from tests.support.published import FEDERATION, FederationRegister
from tests.support.toy_keyservice import running_keyservice

AGE_S = 60.0


@dataclass
class Bench:
    """A member beside a key service that says what the test wants."""

    folder: Path
    connection: Connection
    register: FederationRegister
    now_s: float = 0.0
    minima: FederationMinima = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    @property
    def memory(self) -> Path:
        return self.folder / "minima.json"

    def restart(self) -> None:
        """The member's process dies, and another one takes over its disk."""
        follower = LogFollower(self.connection, LogMemory(self.folder / "audit.json"))
        self.minima = FederationMinima(
            self.connection, follower, FEDERATION, self.memory, AGE_S, lambda: self.now_s
        )

    async def later(self) -> MinimumCohorts:
        self.now_s += AGE_S
        return await self.minima.current()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with benched(tmp_path) as made:
        yield made


@asynccontextmanager
async def benched(folder: Path) -> AsyncIterator[Bench]:
    pki = TestAuthority()
    async with running_keyservice(folder / "keyservice", pki) as (service, server):
        identity: IdentityStore = pki.enrol(folder / "member", Role.CLIENT, "bank-a")
        address = f"127.0.0.1:{server.ports[0]}"
        async with Connection(address, identity, Role.KEYSERVICE) as connection:
            yield Bench(folder, connection, service.minima)


async def test_a_change_counts_up_or_down_when_what_is_known_is_old(bench: Bench) -> None:
    first = await bench.minima.current()
    assert (first.rounds, first.sums, first.revision) == (2, 2, 1)
    raised = bench.register.demand(5, 50)
    assert await bench.minima.current() == first
    assert bench.register.asked == 1
    assert await bench.later() == raised
    lowered = bench.register.demand(3, 50)
    assert await bench.later() == lowered


async def test_before_anything_is_refused_the_key_service_is_asked_again(bench: Bench) -> None:
    bench.register.demand(5, 50)
    with pytest.raises(PolicyError, match="COHORT_BELOW_FEDERATION_MINIMUM"):
        await bench.minima.require_round(4)
    bench.register.demand(4, 50)
    await bench.minima.require_round(4)
    with pytest.raises(PolicyError, match="COHORT_BELOW_FEDERATION_MINIMUM"):
        await bench.minima.require_sum(49)
    bench.register.demand(4, 49)
    await bench.minima.require_sum(49)


async def test_what_the_log_does_not_have_counts_neither_up_nor_down(bench: Bench) -> None:
    bench.register.demand(5)
    await bench.minima.current()
    for rounds in (2, 9):
        bench.register.demand(rounds, revision=3, published=False)
        for _ in range(2):  # it is not forgotten because it was noticed once
            with pytest.raises(IntegrityError, match="MINIMUM_COHORT_NOT_PUBLISHED"):
                await bench.later()
    bench.restart()
    with pytest.raises(IntegrityError, match="MINIMUM_COHORT_NOT_PUBLISHED"):
        await bench.minima.require_round(9)


async def test_an_earlier_revision_never_counts_again(bench: Bench) -> None:
    old = bench.register.minima
    newest = bench.register.demand(5)
    assert await bench.minima.current() == newest
    bench.register.minima = old  # it was published, once
    with pytest.raises(IntegrityError, match="FEDERATION_ROLLED_BACK"):
        await bench.later()
    bench.restart()
    with pytest.raises(IntegrityError, match="FEDERATION_ROLLED_BACK"):
        await bench.minima.require_round(3)
    bench.register.demand(4, revision=2)
    with pytest.raises(IntegrityError, match="FEDERATION_ROLLED_BACK"):
        await bench.later()
    bench.register.minima = newest
    assert await bench.later() == newest


async def test_whoever_remembers_nothing_can_be_told_an_earlier_revision(bench: Bench) -> None:
    """A limit that docs/protocols/cohorts.md states: publication is not being the newest."""
    old = bench.register.minima
    newest = bench.register.demand(5)
    bench.register.minima = old
    assert await bench.minima.current() == old
    bench.register.minima = newest
    assert await bench.later() == newest


@pytest.mark.parametrize(
    "failure",
    [
        UnavailableError("STORE_UNAVAILABLE", "away"),
        ResourceExhaustedError("TOO_MANY_CALLS", "slower"),
        InternalError("INTERNAL_ERROR", "broken"),
    ],
)
async def test_while_the_key_service_is_away_the_last_verified_counts(
    bench: Bench, failure: Exception
) -> None:
    bench.register.failure = failure
    with pytest.raises(UnavailableError, match="MINIMUM_COHORT_UNKNOWN"):
        await bench.minima.require_round(100)
    bench.register.failure = None
    known = bench.register.demand(5)
    assert await bench.minima.current() == known
    bench.register.demand(2)
    bench.register.failure = failure
    assert await bench.later() == known
    bench.restart()
    assert await bench.minima.current() == known
    with pytest.raises(PolicyError, match="COHORT_BELOW_FEDERATION_MINIMUM"):
        await bench.minima.require_round(4)


async def test_who_may_not_read_them_any_more_is_allowed_nothing(bench: Bench) -> None:
    await bench.minima.current()
    bench.register.failure = PermissionDeniedError("FEDERATION_FOREIGN", "not yours")
    with pytest.raises(PermissionDeniedError):
        await bench.later()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"federation": "federations/cards", "revision": 1}', '{"rounds": 3}']
)
async def test_a_damaged_memory_is_said_and_not_passed_over(bench: Bench, content: str) -> None:
    bench.memory.write_text(content)
    with pytest.raises(ConfigurationError, match="MINIMUM_COHORT_MEMORY_DAMAGED"):
        await bench.minima.current()
