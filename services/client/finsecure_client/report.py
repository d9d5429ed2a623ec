"""What the egress manifest says, summed up for people and machines."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from finsecure_crypto.errors import NotFoundError
from rich.table import Table

from finsecure_client import egress
from finsecure_client.egress import Entry


@dataclass(frozen=True)
class Total:
    """All fields of one kind that went to one place in one kind of call."""

    destination: str
    method: str
    kind: str
    fields: int
    bytes: int


@dataclass(frozen=True)
class Report:
    """Totals, in the order in which each kind first left."""

    round: str
    totals: tuple[Total, ...]

    @classmethod
    def read(cls, manifest: Path, round_name: str = "") -> "Report":
        """Sum a manifest up.

        Raises:
            NotFoundError: ROUND_NOT_FOUND, where nothing left in the named round.
            IntegrityError: EGRESS_MANIFEST_DAMAGED.
        """
        report = cls.of(egress.read(manifest), round_name)
        if round_name and not report.totals:
            raise NotFoundError(
                "ROUND_NOT_FOUND",
                f"nothing left in a round {round_name}; leave --round out to see all that left",
            )
        return report

    @classmethod
    def of(cls, entries: Iterable[Entry], round_name: str = "") -> "Report":
        """Sum entries up; with a round's name, or the end of one, only that round's."""
        sums: dict[tuple[str, str, str], tuple[int, int]] = {}
        for entry in entries:
            if round_name and not f"/{entry.round}".endswith(f"/{round_name}"):
                continue
            key = (entry.destination, entry.method.rpartition("/")[2], entry.kind)
            fields, size = sums.get(key, (0, 0))
            sums[key] = (fields + 1, size + entry.length)
        return cls(round_name, tuple(Total(*key, *value) for key, value in sums.items()))

    def as_dict(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "round": self.round,
            "fields": sum(total.fields for total in self.totals),
            "bytes": sum(total.bytes for total in self.totals),
            "totals": [asdict(total) for total in self.totals],
        }

    def table(self) -> Table:
        """Return what people see."""
        table = Table(title=f"What left this client{f' in {self.round}' if self.round else ''}")
        for name in ("to", "call", "what"):
            table.add_column(name)
        for name in ("fields", "bytes"):
            table.add_column(name, justify="right")
        for total in self.totals:
            table.add_row(
                total.destination,
                total.method,
                total.kind,
                f"{total.fields:,}",
                f"{total.bytes:,}",
            )
        whole = self.as_dict()
        table.add_section()
        table.add_row("", "", "all", f"{whole['fields']:,}", f"{whole['bytes']:,}")
        return table
