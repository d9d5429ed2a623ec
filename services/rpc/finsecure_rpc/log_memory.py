"""What a follower of the audit log remembers, in a file beside its identity."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finsecure_crypto.checkpoint import Checkpoint, LogVerifier
from finsecure_crypto.errors import ConfigurationError, FinSecureError

from finsecure_rpc.durable import write_file


@dataclass(frozen=True)
class Remembered:
    """What a follower knows of a log.

    Attributes:
        verifier: the log's key.
        note: the newest signed checkpoint, or empty before the first.
        former: keys that handed the log over, as far as they are known.
    """

    verifier: LogVerifier
    note: str = ""
    former: frozenset[LogVerifier] = frozenset()

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint."""
        return self.verifier.open(self.note) if self.note else None

    @property
    def size(self) -> int:
        """How many events the newest checkpoint commits to; 0 before the first."""
        return self.checkpoint.size if self.checkpoint else 0


class LogMemory:
    """A file that remembers a log across restarts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Remembered | None:
        """Read it; None before the first contact.

        Raises:
            ConfigurationError: AUDIT_MEMORY_DAMAGED; whoever changed the file.
        """
        try:
            data = json.loads(self.path.read_bytes())
            known = Remembered(
                LogVerifier.parse(data["verifier_key"]),
                data["checkpoint"],
                frozenset(map(LogVerifier.parse, data.get("former_keys", []))),
            )
            _ = known.checkpoint
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, FinSecureError) as error:
            raise ConfigurationError(
                "AUDIT_MEMORY_DAMAGED",
                f"{self.path} is damaged: restore it from a backup. Without it a log that was "
                "rolled back cannot be told from a true one.",
            ) from error
        return known

    def exchange(self, expected: Remembered | None, known: Remembered) -> bool:
        """Replace it, unless somebody else changed it; other processes may hold the same file.

        Args:
            expected: what was loaded, and what `known` was compared with.
            known: what is remembered from now on.

        Returns:
            Whether it is remembered now; if not, the file is as it was.

        Raises:
            ConfigurationError: AUDIT_MEMORY_DAMAGED; whoever changed the file.
        """
        if known == expected:
            return self.load() == expected
        with self._alone():
            if self.load() != expected:
                return False
            self.save(known)
            return True

    def save(self, known: Remembered) -> None:
        """Replace it in one step, whatever it was."""
        data = {
            "verifier_key": known.verifier.serialise(),
            "checkpoint": known.note,
            "former_keys": sorted(key.serialise() for key in known.former),
        }
        write_file(self.path, json.dumps(data, indent=1).encode() + b"\n", mode=0o644)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from exchanging meanwhile; the file itself is replaced each time."""
        with self.path.with_name(f".{self.path.name}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
