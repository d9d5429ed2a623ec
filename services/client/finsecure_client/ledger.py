"""What this client has given inputs to; kept on disk, so that no round gets a second one.

An aggregator that runs a round again, goes back to an older model, or changes a task's terms under
the same name would learn more sums of the same data than the members agreed on. Whatever it says,
a client's rounds of a task only go forward, and the terms stay those of the first input.
"""

import threading
from pathlib import Path
from typing import Annotated

from finsecure_crypto.errors import ConfigurationError, InternalError, PolicyError
from finsecure_crypto.federation import task_digest
from finsecure_rpc.durable import write_file
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from finsecure_client.terms import Task


class _Entry(BaseModel):
    """The newest round of a task that got an input, and the digest of the task's terms."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    terms: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    number: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=1)]


_ENTRIES = TypeAdapter(dict[str, _Entry])


class Ledger:
    """The tasks that this client has given inputs to, in a small JSON file; thread-safe.

    Args:
        path: the file; its folder must exist.

    Raises:
        ConfigurationError: LEDGER_INVALID, where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._entries = _ENTRIES.validate_json(path.read_bytes())
        except FileNotFoundError:
            self._entries = {}
        except (OSError, ValidationError) as error:
            raise ConfigurationError(
                "LEDGER_INVALID",
                f"{path}, which says what rounds this client has given inputs to, cannot be read; "
                "restore it from a backup",
            ) from error

    def check(self, task: Task, number: int, attempt: int) -> None:
        """Check that a round is newer than all that got an input, and its terms unchanged.

        Raises:
            PolicyError: ROUND_REPEATED or TASK_CHANGED; the aggregator's fault, unless it was set
                up anew or restored from a backup.
        """
        known = self._entries.get(task.name)
        if known is None:
            return
        if known.terms != _terms(task):
            raise PolicyError(
                "TASK_CHANGED",
                f"the terms of {task.name} are not those that this client has given inputs under; "
                "a new task needs a new name. If its members agreed on the change, remove the "
                f"task from {self._path}",
            )
        if (number, attempt) <= (known.number, known.attempt):
            raise PolicyError(
                "ROUND_REPEATED",
                f"this client has given an input to attempt {known.attempt} at round "
                f"{known.number} of {task.name}, and does not go back to attempt {attempt} at "
                f"round {number}. If the members agreed to run the task again, remove it from "
                f"{self._path}",
            )

    def record(self, task: Task, number: int, attempt: int) -> None:
        """Note on disk that a round gets an input; to be called before it leaves.

        Raises:
            PolicyError: as `check`.
            InternalError: LEDGER_NOT_WRITTEN; nothing may leave then.
        """
        with self._lock:
            self.check(task, number, attempt)
            entry = _Entry(terms=_terms(task), number=number, attempt=attempt)
            entries = {**self._entries, task.name: entry}
            try:
                write_file(self._path, _ENTRIES.dump_json(entries, indent=1))
            except OSError as error:
                raise InternalError(
                    "LEDGER_NOT_WRITTEN",
                    f"{self._path} cannot be written ({error.strerror}); free space or mend the "
                    "permissions. No input leaves until then",
                ) from error
            self._entries = entries


def _terms(task: Task) -> str:
    return task_digest(task.name, task.spec).hex()
