"""Federations, and the minimum cohorts that all of their members keep.

Whoever lowers a minimum makes single inputs easier to tell apart, for good: what is opened once
stays known. So one person may raise it, and it takes two to lower it.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from finsecure_crypto.errors import ConflictError, NotFoundError
from finsecure_crypto.minimum_cohorts import MinimumCohorts

from finsecure_keyservice.approvals import DangerousAct
from finsecure_keyservice.names import federation_id
from finsecure_keyservice.records import FederationRecord
from finsecure_keyservice.store import Store


def create_federation(
    store: Store,
    name: str,
    display_name: str,
    now: datetime,
    *,
    minimum_cohort: int = 0,
    minimum_sum_cohort: int = 0,
) -> FederationRecord:
    """Open a federation; a minimum of 0 means the default.

    Raises:
        InvalidArgumentError: NAME_MALFORMED or MINIMUM_OUT_OF_RANGE.
        ConflictError: FEDERATION_EXISTS.
    """
    federation_id(name)
    if store.federation(name) is not None:
        raise ConflictError("FEDERATION_EXISTS", f"{name} exists already; choose another id")
    given = {"rounds": minimum_cohort, "sums": minimum_sum_cohort}
    minima = MinimumCohorts(name, 1, **{kind: least for kind, least in given.items() if least})
    federation = FederationRecord(name, display_name, now, minima)
    store.add_federation(federation)
    _record(store, "federation.create", minima)
    return federation


def get_federation(store: Store, name: str) -> FederationRecord:
    """Read a federation.

    Raises:
        NotFoundError: FEDERATION_NOT_FOUND.
    """
    federation = store.federation(name)
    if federation is None:
        raise NotFoundError(
            "FEDERATION_NOT_FOUND", f"there is no {name}; list the federations for what there is"
        )
    return federation


@dataclass(frozen=True)
class Change:
    """What somebody wants of a federation's minimum cohorts.

    Attributes:
        name: of the federation.
        rounds: the new minimum of rounds; None leaves it.
        sums: the new minimum of audited sums; None leaves it.
        revision: that the federation must have: who agrees knows from what it is changed.
    """

    name: str
    rounds: int | None
    sums: int | None
    revision: int

    def of(self, minima: MinimumCohorts) -> MinimumCohorts:
        """The minima after the change.

        Raises:
            InvalidArgumentError: MINIMUM_OUT_OF_RANGE.
        """
        return replace(
            minima,
            revision=minima.revision + 1,
            rounds=minima.rounds if self.rounds is None else self.rounds,
            sums=minima.sums if self.sums is None else self.sums,
        )


def lowering(federation: FederationRecord | None, change: Change) -> DangerousAct | None:
    """What a change is that lowers a minimum: an act of two security officers.

    One of a federation that there is not, or of another revision than it has, is none: it fails.

    Raises:
        InvalidArgumentError: MINIMUM_OUT_OF_RANGE.
    """
    if federation is None or federation.minima.revision != change.revision:
        return None
    before, after = federation.minima, change.of(federation.minima)
    lowered = [
        f"of {what} from {old} to {new}"
        for what, old, new in (
            ("rounds", before.rounds, after.rounds),
            ("audited sums", before.sums, after.sums),
        )
        if new < old
    ]
    if not lowered:
        return None
    return DangerousAct(
        "federations.lower",
        f"lower the minimum cohort {' and that '.join(lowered)} in {change.name}",
    )


def update_federation(store: Store, change: Change, *, agreed: bool) -> FederationRecord:
    """Change the minimum cohorts of a federation.

    Args:
        store: the transaction.
        change: what to change.
        agreed: whether two security officers want it.

    Raises:
        NotFoundError: FEDERATION_NOT_FOUND.
        InvalidArgumentError: MINIMUM_OUT_OF_RANGE.
        ConflictError: ETAG_MISMATCH, also where it lowers by now what it did not when nobody's
            agreement seemed needed.
    """
    federation = get_federation(store, change.name)
    minima = federation.minima
    if change.revision != minima.revision or not (agreed or lowering(federation, change) is None):
        raise ConflictError(
            "ETAG_MISMATCH", f"{change.name} has changed meanwhile; read it again, then decide"
        )
    after = replace(federation, minima=change.of(minima))
    store.update_federation(after)
    _record(store, "federation.update", after.minima)
    return after


def _record(store: Store, action: str, minima: MinimumCohorts) -> None:
    store.trail.record(
        action,
        minima.federation,
        published=minima.digest(),
        revision=minima.revision,
        minimum_cohort=minima.rounds,
        minimum_sum_cohort=minima.sums,
    )
