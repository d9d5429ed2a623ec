"""Resource names: of this aggregator's one federation and well formed, or refused."""

import re

from finsecure_crypto.errors import InvalidArgumentError, NotFoundError

from finsecure_aggregator.records import RoundKey

_ID = r"[a-z][a-z0-9-]{0,38}[a-z0-9]"
_FEDERATION = re.compile(f"federations/({_ID})")
_TASK = re.compile(f"federations/({_ID})/tasks/{_ID}")
_ROUND = re.compile(
    rf"(federations/({_ID})/tasks/{_ID})/rounds/(0|[1-9]\d{{0,5}})-([1-9]\d{{0,5}})"
)
_SUM = re.compile(f"federations/({_ID})/sums/{_ID}")
_MODEL = re.compile(rf"(federations/({_ID})/tasks/{_ID})/models/(latest|0|[1-9]\d{{0,8}})")


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
        self.require(_match(_FEDERATION, name, "federations/{federation}")[1])
        return name

    def task(self, name: str) -> str:
        """Check the name of a task."""
        self.require(_match(_TASK, name, "federations/{federation}/tasks/{task}")[1])
        return name

    def round(self, name: str) -> RoundKey:
        """Read the name of a round."""
        form = "federations/{federation}/tasks/{task}/rounds/{number}-{attempt}"
        match = _match(_ROUND, name, form)
        self.require(match[2])
        return RoundKey(match[1], int(match[3]), int(match[4]))

    def model(self, name: str) -> tuple[str, int | None]:
        """Read the name of a model version: its task, and its number or None for the latest."""
        match = _match(_MODEL, name, "federations/{federation}/tasks/{task}/models/{version}")
        self.require(match[2])
        return match[1], None if match[3] == "latest" else int(match[3])

    def sum(self, name: str) -> str:
        """Check the name of an audited sum."""
        self.require(_match(_SUM, name, "federations/{federation}/sums/{sum}")[1])
        return name

    def require(self, federation: str) -> None:
        """Refuse the id of another federation."""
        if federation != self._federation:
            raise NotFoundError(
                "FEDERATION_NOT_FOUND",
                f"this aggregator serves federations/{self._federation} and no other",
            )


def _match(pattern: re.Pattern[str], name: str, form: str) -> re.Match[str]:
    match = pattern.fullmatch(name)
    if match is None:
        raise InvalidArgumentError(
            "NAME_MALFORMED", f"{name[:200]!r} is not a resource name of the form {form}"
        )
    return match
