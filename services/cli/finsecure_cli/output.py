"""What a command prints: tables for people, JSON for machines."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON for a program instead of a table.")
]
CONSOLE = Console(highlight=False)


def print_json(value: object) -> None:
    """Print one JSON value with sorted indentation, as UTF-8."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print a table, or a sentence where there is nothing."""
    if not rows:
        CONSOLE.print(empty)
        return
    CONSOLE.print(table(columns, rows))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> Table:
    """Build a table; columns that hold only numbers are aligned to the right."""
    result = Table(title=title or None, title_justify="left", header_style="bold", box=None)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], (int, float)) or row[index] is None for row in rows)
        result.add_column(column, justify="right" if numeric and rows else "left", no_wrap=numeric)
    for row in rows:
        result.add_row(*(cell(value) for value in row))
    return result


def cell(value: object) -> str:
    """Return a value as text; what is missing is a dash."""
    if value is None or value == "":
        return "–"  # noqa: RUF001 - a dash, on purpose
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"  # noqa: RUF001
    return str(value)


def short_name(document: Mapping[str, Any], key: str = "name") -> str:
    """Return the last part of a resource name, which is what a person types."""
    return str(document.get(key, "")).rpartition("/")[2]


def short_time(document: Mapping[str, Any], key: str) -> str:
    """Return a time of a document in local time, to the second."""
    value = document.get(key)
    return "" if not value else f"{moment(value).astimezone():%Y-%m-%d %H:%M:%S}"


def moment(text: str) -> datetime:
    """Read an RFC 3339 time."""
    return datetime.fromisoformat(text)


def seconds_between(document: Mapping[str, Any], start: str, end: str) -> float | None:
    """Return the seconds between two times of a document, where both are set."""
    if not document.get(start) or not document.get(end):
        return None
    return (moment(document[end]) - moment(document[start])).total_seconds()


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
