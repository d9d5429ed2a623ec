"""The life of a key version: one table that code, tests and the diagram in the docs share.

The states are those of Cloud KMS, with `DEACTIVATED` and `COMPROMISED` of NIST SP 800-57 part 1,
section 7: a deactivated version still opens and verifies what it protected before.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from finsecure_crypto.errors import StateError


class VersionState(Enum):
    """Where a version stands."""

    PENDING_GENERATION = "pending-generation"  # recorded; its key is being made
    GENERATION_FAILED = "generation-failed"  # never had a key
    PENDING_ACTIVATION = "pending-activation"  # has a key that waits for its time
    ENABLED = "enabled"  # protects and processes
    DEACTIVATED = "deactivated"  # processes what it protected before
    DISABLED = "disabled"  # does nothing, may come back
    DESTROY_SCHEDULED = "destroy-scheduled"  # does nothing, may be restored until its time
    DESTROYED = "destroyed"  # its key is gone for good
    COMPROMISED = "compromised"  # somebody else may have it


class Step(Enum):
    """What moves a version."""

    GENERATE = "generate"
    FAIL = "fail"
    ACTIVATE = "activate"
    DEACTIVATE = "deactivate"
    DISABLE = "disable"
    ENABLE = "enable"
    SCHEDULE_DESTRUCTION = "schedule-destruction"
    RESTORE = "restore"
    DESTROY = "destroy"
    COMPROMISE = "compromise"


_S = VersionState

TRANSITIONS: Mapping[tuple[VersionState, Step], VersionState] = MappingProxyType(
    {
        (_S.PENDING_GENERATION, Step.GENERATE): _S.PENDING_ACTIVATION,
        (_S.PENDING_GENERATION, Step.FAIL): _S.GENERATION_FAILED,
        (_S.PENDING_ACTIVATION, Step.ACTIVATE): _S.ENABLED,
        (_S.PENDING_ACTIVATION, Step.SCHEDULE_DESTRUCTION): _S.DESTROY_SCHEDULED,
        (_S.PENDING_ACTIVATION, Step.COMPROMISE): _S.COMPROMISED,
        (_S.ENABLED, Step.DEACTIVATE): _S.DEACTIVATED,
        (_S.ENABLED, Step.DISABLE): _S.DISABLED,
        (_S.ENABLED, Step.COMPROMISE): _S.COMPROMISED,
        (_S.DEACTIVATED, Step.DISABLE): _S.DISABLED,
        (_S.DEACTIVATED, Step.SCHEDULE_DESTRUCTION): _S.DESTROY_SCHEDULED,
        (_S.DEACTIVATED, Step.COMPROMISE): _S.COMPROMISED,
        (_S.DISABLED, Step.ENABLE): _S.ENABLED,
        (_S.DISABLED, Step.DEACTIVATE): _S.DEACTIVATED,
        (_S.DISABLED, Step.SCHEDULE_DESTRUCTION): _S.DESTROY_SCHEDULED,
        (_S.DISABLED, Step.COMPROMISE): _S.COMPROMISED,
        (_S.DESTROY_SCHEDULED, Step.RESTORE): _S.DISABLED,
        (_S.DESTROY_SCHEDULED, Step.DESTROY): _S.DESTROYED,
        (_S.DESTROY_SCHEDULED, Step.COMPROMISE): _S.COMPROMISED,
        (_S.COMPROMISED, Step.SCHEDULE_DESTRUCTION): _S.DESTROY_SCHEDULED,
    }
)


class Use(Enum):
    """What a version may be asked for, apart from changing it."""

    PROTECT = "protect"  # sign, wrap
    VERIFY = "verify"
    OPEN = "open"  # unwrap


USES: Mapping[Use, frozenset[VersionState]] = MappingProxyType(
    {
        Use.PROTECT: frozenset({_S.ENABLED}),
        Use.VERIFY: frozenset({_S.ENABLED, _S.DEACTIVATED}),
        # What a compromised version protects has to be opened once more, to protect it anew.
        Use.OPEN: frozenset({_S.ENABLED, _S.DEACTIVATED, _S.COMPROMISED}),
    }
)


def after(state: VersionState, step: Step, name: str) -> VersionState:
    """The state that a step leads to.

    Raises:
        StateError: KEY_STATE where the table has no such transition.
    """
    following = TRANSITIONS.get((state, step))
    if following is None:
        possible = sorted(s.value for before, s in TRANSITIONS if before is state)
        raise StateError(
            "KEY_STATE",
            f"{name} is {state.value}; from there it can only: {', '.join(possible) or 'stay'}",
        )
    return following


def require_use(state: VersionState, use: Use, name: str) -> None:
    """Refuse what a version in its state may not do.

    Raises:
        StateError: KEY_STATE.
    """
    if state not in USES[use]:
        allowed = ", ".join(sorted(each.value for each in USES[use]))
        raise StateError(
            "KEY_STATE", f"{name} is {state.value}; to {use.value} takes one that is {allowed}"
        )


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {_S.PENDING_GENERATION.name}"]
    lines += [
        f"    {before.name} --> {following.name}: {step.value}"
        for (before, step), following in TRANSITIONS.items()
    ]
    lines += [f"    {final.name} --> [*]" for final in (_S.GENERATION_FAILED, _S.DESTROYED)]
    return "\n".join(lines) + "\n"
