"""Files with the values that a member contributes: integers by label."""

import csv
import json
from pathlib import Path

from finsecure_crypto.errors import InvalidArgumentError

_MOST_BYTES = 8 << 20


def read_values(path: Path) -> dict[str, int]:
    """Read a JSON object of integers, or a CSV file with the columns `label` and `value`.

    Raises:
        InvalidArgumentError: VALUES_INVALID; whoever made the file.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _invalid(path, f"it has more than {_MOST_BYTES} bytes")
        text = path.read_text("utf-8")
        pairs = _json(text) if path.suffix == ".json" else _csv(text)
    except OSError as error:
        raise _invalid(path, error.strerror or "it cannot be read") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise _invalid(path, f"{type(error).__name__}: {error}") from error
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _invalid(path, "a label is in it twice")
    return values


def _json(text: str) -> list[tuple[str, int]]:
    pairs = json.loads(text, object_pairs_hook=list)
    if not isinstance(pairs, list):
        raise TypeError("no JSON object")
    for pair in pairs:
        if not (isinstance(pair, tuple) and type(pair[1]) is int):
            raise TypeError("a value is no integer")
    return pairs


def _csv(text: str) -> list[tuple[str, int]]:
    return [
        (row["label"], int(row["value"])) for row in csv.DictReader(text.splitlines(), strict=True)
    ]


def _invalid(path: Path, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        "VALUES_INVALID",
        f"{path} does not hold integers by label ({why}); write a JSON object, or a CSV file with "
        "the columns label and value",
    )
