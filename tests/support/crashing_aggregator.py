"""The real aggregator, which kills itself (kill -9) when it comes to the point CRASH_AT.

Points: `logged:<phase>:<n>` after the n-th message of a phase is committed and before it is
acknowledged; `closed:<phase>` after a phase is closed in the log; `unmasking` before the sum is
unmasked; `opening` before trustees are asked; `partial` once one has answered; `model-written`
after the file of the new version is there and before the round is completed; `completed` after the
round is, before anybody is told.
"""

import os
import signal
from typing import Any

from finsecure_aggregator import (
    encrypted_round,
    main,
    masked_round,
    models,
    opening,
    records,
    store,
)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(owner: Any, name: str, due: Any) -> None:
    """Let a coroutine function or function of a class crash once it is done, if `due`."""
    original = getattr(owner, name)

    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await original(self, *args, **kwargs)
        if due(self, *args, **kwargs):
            crash()
        return result

    setattr(owner, name, wrapped)


def arm(point: str) -> None:
    match point.split(":"):
        case ["logged", phase, number]:
            counted = []

            def nth(_: Any, key: Any, messages: Any) -> bool:
                counted.extend(each for each in messages if each.phase.value == phase)
                return len(counted) >= int(number)

            after(store.Store, "append", nth)
        case ["closed", closed]:
            after(
                store.Store,
                "next_phase",
                lambda *_, now_ns, phase: _before(phase.phase.value) == closed,
            )
        case ["unmasking"]:

            async def no_sum(self: Any, deadline_ns: int) -> Any:
                crash()

            masked_round.MaskedRound.sum = no_sum  # type: ignore[method-assign]
        case ["opening"]:

            async def no_opening(self: Any, deadline_ns: int) -> Any:
                crash()

            encrypted_round.EncryptedRound.sum = no_opening  # type: ignore[method-assign]
        case ["partial"]:
            after(opening.SumOpener, "_ask", lambda *_: True)
        case ["model-written"]:
            original = models.ModelKeeper.next

            def written(self: Any, *args: Any, **kwargs: Any) -> Any:
                original(self, *args, **kwargs)
                crash()

            models.ModelKeeper.next = written  # type: ignore[method-assign,assignment]
        case ["completed"]:
            after(store.Store, "complete_round", lambda *_: True)
        case _:
            raise SystemExit(f"no such crash point: {point}")


def _before(phase: str) -> str:
    if phase == records.RoundState.OPENING.value:
        return records.RoundState.SUBMIT_INPUT.value
    order = [state.value for state in records.RoundState]
    return order[order.index(phase) - 1]


if __name__ == "__main__":
    arm(os.environ["CRASH_AT"])
    main.main()
