"""A capability that can be used once."""

import threading

from finsecure_crypto.errors import StateError


class Once:
    """Lets one step of the protocol happen once, whoever asks, from whichever thread.

    A client that masked twice, or revealed twice, would hand out the difference of two inputs or
    both kinds of share; an immutable state object alone does not prevent its second use.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def spend(self, step: str) -> None:
        """Uses the capability up.

        Raises:
            StateError: `ALREADY_ANSWERED` from the second time on; the caller's, who sends the
                first answer again instead of asking for a new one.
        """
        if not self._lock.acquire(blocking=False):
            raise StateError(
                "ALREADY_ANSWERED",
                f"{step} has been answered once and is never answered anew; "
                "send the first answer again",
            )
