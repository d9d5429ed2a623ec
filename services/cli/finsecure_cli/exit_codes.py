"""What the exit status of a command means, and how an error looks to a person."""

from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn

import typer
from finsecure_crypto import errors
from finsecure_crypto.errors import FinSecureError


class ExitCode(IntEnum):
    """Exit statuses; a script may rely on them."""

    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    INTERRUPTED = 130


_CODES: tuple[tuple[type[FinSecureError], ExitCode], ...] = (
    (errors.ConfigurationError, ExitCode.USAGE),
    (errors.InvalidArgumentError, ExitCode.USAGE),
    (errors.AuthenticationError, ExitCode.REFUSED),
    (errors.PermissionDeniedError, ExitCode.REFUSED),
    (errors.NotFoundError, ExitCode.NOT_FOUND),
    (errors.UnavailableError, ExitCode.UNAVAILABLE),
)


def exit_code(error: FinSecureError) -> ExitCode:
    """Return the exit status for an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def fail(error: FinSecureError) -> NoReturn:
    """Print one line and leave with the error's exit status."""
    line = " ".join(str(error).split())
    typer.echo(f"error: {line}", err=True)
    raise SystemExit(exit_code(error))


def run(command: Callable[[], None]) -> None:
    """Run the command line; turn errors into one line and an exit status."""
    try:
        command()
    except FinSecureError as error:
        fail(error)
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output has left (`finsecure … | head`); that is no failure of ours.
        raise SystemExit(0) from None
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        fail(
            errors.ConfigurationError(
                "FILE_ERROR", f"{error.strerror or error}{where}; check the path and its rights"
            )
        )
