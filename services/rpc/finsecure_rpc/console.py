"""How every command of the project ends: one line for people, an exit status for machines."""

import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from finsecure_crypto import errors
from finsecure_crypto.errors import ConfigurationError, FinSecureError
from finsecure_crypto.secret import SecretBytes

_MOST_KEY_BYTES = 4096


class ExitCode(IntEnum):
    """Exit statuses; a script may rely on them."""

    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    INTERRUPTED = 130


_CODES: tuple[tuple[type[FinSecureError], ExitCode], ...] = (
    (ConfigurationError, ExitCode.USAGE),
    (errors.InvalidArgumentError, ExitCode.USAGE),
    (errors.AuthenticationError, ExitCode.REFUSED),
    (errors.PermissionDeniedError, ExitCode.REFUSED),
    (errors.NotFoundError, ExitCode.NOT_FOUND),
    (errors.UnavailableError, ExitCode.UNAVAILABLE),
)


def exit_code(error: FinSecureError) -> ExitCode:
    """Return the exit status for an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def error_line(error: FinSecureError) -> str:
    """Return the one line that a person sees."""
    return f"error: {' '.join(str(error).split())}"


def run(command: Callable[[], object]) -> None:
    """Run a command; turn what it raises into one line and an exit status, never a traceback."""
    try:
        command()
    except FinSecureError as error:
        _leave(error)
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output has left (`finsecure … | head`); that is no failure of ours.
        raise SystemExit(0) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _leave(
            ConfigurationError(
                "FILE_ERROR", f"{where}{error.strerror or error}; check the path and its rights"
            )
        )
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        _leave(
            errors.InternalError(
                "INTERNAL",
                f"{type(error).__name__} at {place.filename}:{place.lineno}; this is a defect, "
                "report it with this line",
            )
        )


def _leave(error: FinSecureError) -> None:
    print(error_line(error), file=sys.stderr)
    raise SystemExit(exit_code(error)) from None


def read_api_key(path: Path) -> SecretBytes:
    """Read an API key or a join token from a file, or from standard input where the path is `-`.

    Raises:
        ConfigurationError: API_KEY_MISSING.
    """
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(_MOST_KEY_BYTES)
        else:
            with path.open("rb") as stream:
                content = stream.read(_MOST_KEY_BYTES)
    except OSError as error:
        raise ConfigurationError(
            "API_KEY_MISSING",
            f"{path} cannot be read ({error.strerror}); give the file that the operator sent you",
        ) from error
    if not content.strip():
        raise ConfigurationError(
            "API_KEY_MISSING", f"{path} is empty; give the file that the operator sent you"
        )
    return SecretBytes(content.strip())
