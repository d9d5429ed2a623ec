"""Waiting for the next round of a task: until it is due, and enough clients are there."""

from collections.abc import Callable
from dataclasses import dataclass

from finsecure_crypto.errors import FinSecureError
from finsecure_rpc.federation_minima import Minima

from finsecure_aggregator.plan import SECOND_NS, Plan
from finsecure_aggregator.records import TaskRecord
from finsecure_aggregator.surroundings import Surroundings

_MOST_SETTLES = 10
# How soon a waiting task sees that the federation's minimum cohort has changed.
_LOOK_NS = 5 * SECOND_NS


@dataclass(frozen=True)
class Pace:
    """How the scheduler waits.

    Attributes:
        settle_ns: how long the set of available clients must stay as it is before a round starts
            with fewer than the maximum; after ten times that it starts anyway.
    """

    settle_ns: int


@dataclass(frozen=True)
class Need:
    """What the next round of a task needs.

    Attributes:
        clients: how many, by the task or by the federation, whichever demands more.
        obstacle: why no round starts, however many there are; empty where one may.
    """

    clients: int
    obstacle: str = ""


@dataclass(frozen=True)
class Gathered:
    """Clients for a round.

    Attributes:
        clients: ids of those that are there.
        minimum_cohort: fewest of them whose inputs may be summed.
    """

    clients: frozenset[str]
    minimum_cohort: int


class Gathering:
    """Waits for the clients of one task.

    Attributes:
        need: what the next round needs, as of the last look; None before the first.
    """

    def __init__(self, around: Surroundings, pace: Pace) -> None:
        self.need: Need | None = None
        self._around = around
        self._pace = pace

    async def gather(
        self, task: TaskRecord, plan: Plan, cancelled: Callable[[], bool]
    ) -> Gathered | None:
        """Wait for the time and the clients of the next round; None if the task was cancelled."""
        clock, presence, settle_ns = self._around.clock, self._around.presence, self._pace.settle_ns
        enough_ns: int | None = None  # since when
        with self._around.changes.watch((task.name,)) as changed:
            while not cancelled():
                changed.clear()
                need = await self._look(plan)
                now_ns = clock.now_ns()
                available = presence.count(task.name)
                until_ns = now_ns + _LOOK_NS
                if need.obstacle or available < need.clients:
                    enough_ns = None
                elif enough_ns is None:
                    enough_ns = now_ns
                if now_ns < (task.next_round_ns or 0):
                    until_ns = min(until_ns, task.next_round_ns or 0)
                elif enough_ns is not None:
                    # A client that comes and goes all the time must not put the round off for ever.
                    latest_ns = enough_ns + _MOST_SETTLES * settle_ns
                    settled_ns = min(presence.changed_ns(task.name) + settle_ns, latest_ns)
                    if available >= plan.maximum_cohort or settled_ns <= now_ns:
                        return Gathered(presence.available(task.name), need.clients)
                    until_ns = min(until_ns, settled_ns)
                await clock.wait(changed, until_ns)
        return None

    async def _look(self, plan: Plan) -> Need:
        need = await needed(self._around.minima, plan)
        if need != self.need:
            self.need = need
            self._around.changes.notify(plan.name)
        return need


async def needed(minima: Minima, plan: Plan) -> Need:
    """Find out what the next round of a task needs."""
    own = plan.terms.minimum_cohort
    try:
        demanded = await minima.current()
    except FinSecureError as error:
        return Need(own, f"no round starts: {error.message} [{error.code}]")
    if demanded.rounds > plan.maximum_cohort:
        return Need(
            demanded.rounds,
            f"no round starts: the minimum cohort of {demanded.federation} is {demanded.rounds}, "
            f"and the task takes at most {plan.maximum_cohort} clients; create another task, or "
            "have two security officers lower the minimum [COHORT_BELOW_FEDERATION_MINIMUM]",
        )
    return Need(max(own, demanded.rounds))
