"""The minimum cohorts of the own federation, as the key service has published them.

A member asks again when what it knows is some time old, and before it refuses anything. Another
revision counts, up or down, once its publication is proven to be in the audit log; an earlier one
than was verified never counts again. While the key service cannot be reached, the last one that
was verified does: it is on the disk. Before there is a first, and while the key service or its log
contradicts what was verified, nothing is allowed.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from finsecure.keyservice.v1 import members_pb2, members_pb2_grpc
from finsecure_crypto.errors import (
    ConfigurationError,
    FinSecureError,
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PolicyError,
    ResourceExhaustedError,
    UnavailableError,
)
from finsecure_crypto.minimum_cohorts import MinimumCohorts

from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.durable import write_file
from finsecure_rpc.logs import get_logger
from finsecure_rpc.validation import check_message

SERVER_AGE_S = 5.0
"""How old what an aggregator or a trustee knows may be; they decide for many."""
CLIENT_AGE_S = 900.0
"""The same of clients, who are many and look at the audit log as often."""

_DEADLINE_S = 5.0
_UNREACHABLE = (UnavailableError, ResourceExhaustedError, InternalError)

_log = get_logger(__name__)


class Minima(Protocol):
    """Gives the minimum cohorts of one federation."""

    async def current(self) -> MinimumCohorts:
        """What the federation demands now.

        Raises:
            UnavailableError: MINIMUM_COHORT_UNKNOWN; nothing was ever verified.
            FinSecureError: the key service or its log must not be believed now.
        """

    async def require_round(self, minimum: int) -> None:
        """Refuse a round that may sum the inputs of fewer than the federation demands.

        Raises:
            PolicyError: COHORT_BELOW_FEDERATION_MINIMUM.
            FinSecureError: as `current`.
        """

    async def require_sum(self, minimum: int) -> None:
        """Refuse an audited sum that may be opened with fewer; raises as `require_round`."""


class FederationMinima:
    """The minimum cohorts of the own federation, asked for, verified and remembered; a `Minima`.

    Args:
        connection: to the key service, as a member.
        follower: follows its audit log.
        federation: resource name.
        memory: file that remembers the last that was verified.
        age_s: how old that may be before it is asked for again.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        connection: Connection,
        follower: LogFollower,
        federation: str,
        memory: Path,
        age_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._follower = follower
        self._federation = federation
        self._memory = memory
        self._age_s = age_s
        self._clock = clock
        self._known: MinimumCohorts | None = None
        self._looked_s: float | None = None
        self._looking = asyncio.Lock()

    async def current(self) -> MinimumCohorts:
        """What the federation demands now; see `Minima`.

        Raises:
            UnavailableError: MINIMUM_COHORT_UNKNOWN.
            IntegrityError: FEDERATION_ROLLED_BACK, MINIMUM_COHORT_NOT_PUBLISHED or
                MINIMUM_COHORT_INVALID, or what the audit log is guilty of; the key service's fault.
            ConfigurationError: MINIMUM_COHORT_MEMORY_DAMAGED.
            FinSecureError: what else the key service answers.
        """
        return await self._newest(self._age_s)

    async def require_round(self, minimum: int) -> None:
        """See `Minima`."""
        await self._require(lambda known: known.require_round(minimum))

    async def require_sum(self, minimum: int) -> None:
        """See `Minima`."""
        await self._require(lambda known: known.require_sum(minimum))

    async def _require(self, check: Callable[[MinimumCohorts], None]) -> None:
        try:
            check(await self.current())
        except PolicyError:
            # It may have been lowered meanwhile.
            check(await self._newest(0.0))

    async def _newest(self, age_s: float) -> MinimumCohorts:
        async with self._looking:
            known = self._known or self._remembered()
            old = self._looked_s is None or self._clock() - self._looked_s >= age_s
            if known is None or old:
                known = await self._look(known)
                self._looked_s = self._clock()
            self._known = known
            return known

    async def _look(self, known: MinimumCohorts | None) -> MinimumCohorts:
        """Ask, and verify what is new; what is known where nobody answers."""
        try:
            found = await self._ask()
            if known is not None and not found.follows(known):
                return known
            await self._follower.verify_publication(self._federation, found.digest())
        except NotFoundError as error:
            raise IntegrityError(
                "MINIMUM_COHORT_NOT_PUBLISHED",
                f"the minimum cohorts that the key service says of {self._federation} are not in "
                "its audit log; ask its operator, and go on with nothing",
            ) from error
        except _UNREACHABLE as error:
            if known is None:
                raise UnavailableError(
                    "MINIMUM_COHORT_UNKNOWN",
                    f"the minimum cohorts of {self._federation} were never read, and the key "
                    f"service does not say them now ({error.code}); try again when it does",
                ) from error
            _log.warning("minimum cohorts not read; the last ones count", error=str(error))
            return known
        self._remember(found)
        _log.info("minimum cohorts", revision=found.revision, rounds=found.rounds, sums=found.sums)
        return found

    async def _ask(self) -> MinimumCohorts:
        stub = self._connection.stub(members_pb2_grpc.FederationServiceStub)
        answer = await self._connection.call(
            stub.GetFederation,
            members_pb2.GetFederationRequest(name=self._federation),
            deadline_s=_DEADLINE_S,
        )
        said = answer.federation
        try:
            check_message(said)
            if said.name == self._federation:
                return MinimumCohorts(
                    said.name, said.revision, said.minimum_cohort, said.minimum_sum_cohort
                )
        except FinSecureError as error:
            raise self._invalid() from error
        raise self._invalid()

    def _remembered(self) -> MinimumCohorts | None:
        try:
            known = MinimumCohorts(**json.loads(self._memory.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, InvalidArgumentError) as error:
            raise self._damaged() from error
        if known.federation != self._federation:
            raise self._damaged()
        return known

    def _remember(self, known: MinimumCohorts) -> None:
        write_file(self._memory, json.dumps(vars(known), indent=1).encode() + b"\n", mode=0o644)

    def _invalid(self) -> IntegrityError:
        return IntegrityError(
            "MINIMUM_COHORT_INVALID",
            f"the key service does not say the minimum cohorts of {self._federation} as the "
            "contract has them",
        )

    def _damaged(self) -> ConfigurationError:
        return ConfigurationError(
            "MINIMUM_COHORT_MEMORY_DAMAGED",
            f"{self._memory} is damaged or of another federation: restore it from a backup. "
            "Without it a key service that goes back to smaller minima cannot be told.",
        )
