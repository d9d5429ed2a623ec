"""Resource names: of this aggregator's one federation and well formed, or refused."""

import re

from finsecure_crypto.errors import NotFoundError
from finsecure_rpc.resource_names import ID, matched

from finsecure_aggregator.records import RoundKey

_FEDERATION = re.compile(f"federations/({ID})")
_TASK = re.compile(f"federations/({ID})/tasks/{ID}")
_ROUND = re.compile(rf"(federations/({ID})/tasks/{ID})/rounds/(0|[1-9]\d{{0,5}})-([1-9]\d{{0,5}})")
_SUM = re.compile(f"federations/({ID})/sums/{ID}")
_MODEL = re.compile(rf"(federations/({ID})/tasks/{ID})/models/(latest|0|[1-9]\d{{0,8}})")


class Names:
    """Reads resource names of one federation.

    Every method raises InvalidArgumentError NAME_MALFORMED or NotFoundError FEDERATION_NOT_FOUND,
    both the caller's fault.

    Args:
        federation: id of the one federation that is served.
    """

    def __init__(self, federation: str) -> None:
        self._federation = federation

    def federation(self, name: str) -> str:
        """Check the name of the federation itself."""
        self.require(matched(_FEDERATION, name, "federations/{federation}")[1])
        return name

    def task(self, name: str) -> str:
        """Check the name of a task."""
        self.require(matched(_TASK, name, "federations/{federation}/tasks/{task}")[1])
        return name

    def round(self, name: str) -> RoundKey:
        """Read the name of a round."""
        form = "federations/{federation}/tasks/{task}/rounds/{number}-{attempt}"
        match = matched(_ROUND, name, form)
        self.require(match[2])
        return RoundKey(match[1], int(match[3]), int(match[4]))

    def model(self, name: str) -> tuple[str, int | None]:
        """Read the name of a model version: its task, and its number or None for the latest."""
        match = matched(_MODEL, name, "federations/{federation}/tasks/{task}/models/{version}")
        self.require(match[2])
        return match[1], None if match[3] == "latest" else int(match[3])

    def sum(self, name: str) -> str:
        """Check the name of an audited sum."""
        self.require(matched(_SUM, name, "federations/{federation}/sums/{sum}")[1])
        return name

    def require(self, federation: str) -> None:
        """Refuse the id of another federation."""
        if federation != self._federation:
            raise NotFoundError(
                "FEDERATION_NOT_FOUND",
                f"this aggregator serves federations/{self._federation} and no other",
            )
