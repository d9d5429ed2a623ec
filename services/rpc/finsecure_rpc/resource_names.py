"""What all resource names have in common: how an id is spelt, and how a wrong name is refused."""

import re

from finsecure_crypto.errors import InvalidArgumentError

ID = r"[a-z][a-z0-9-]{0,38}[a-z0-9]"
"""Pattern of an id."""

ID_RULE = "an id is 2 to 40 lower-case letters, digits and hyphens, a letter first, no hyphen last"


def matched(pattern: re.Pattern[str], name: str, form: str) -> re.Match[str]:
    """Match a whole name.

    Args:
        pattern: of the name.
        name: as the caller gave it.
        form: of the name, for people.

    Raises:
        InvalidArgumentError: NAME_MALFORMED; the caller's mistake.
    """
    match = pattern.fullmatch(name)
    if match is None:
        raise InvalidArgumentError(
            "NAME_MALFORMED",
            f"{name[:200]!r} is not a resource name of the form {form}; {ID_RULE}",
        )
    return match
