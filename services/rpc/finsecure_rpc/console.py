"""How every command of the project ends: one line for people, an exit status for machines."""

import re
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from finsecure_crypto import errors
from finsecure_crypto.errors import ConfigurationError, FinSecureError
from finsecure_crypto.secret import SecretBytes

from finsecure_rpc.bearer import MAXIMUM_TOKEN

_MOST_KEY_BYTES = 4096
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]{1,%d}=*" % MAXIMUM_TOKEN)  # RFC 6750, section 2.1


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
    return _read_secret(
        path, _MOST_KEY_BYTES, "API_KEY_MISSING", "the file that the operator sent you"
    )


def read_token(path: Path) -> SecretBytes:
    """Read a bearer token from a file, or from standard input where the path is `-`.

    Raises:
        ConfigurationError: TOKEN_MISSING, also for what is no text of a token.
    """
    token = _read_secret(path, MAXIMUM_TOKEN + 2, "TOKEN_MISSING", "a token of your provider")
    if not _TOKEN.fullmatch(token.expose()):
        raise ConfigurationError(
            "TOKEN_MISSING",
            f"{path} holds no token; sign in again and store the access token alone",
        )
    return token


def _read_secret(path: Path, most: int, code: str, wanted: str) -> SecretBytes:
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(most)
        else:
            with path.open("rb") as stream:
                content = stream.read(most)
    except OSError as error:
        raise ConfigurationError(
            code, f"{path} cannot be read ({error.strerror}); give {wanted}"
        ) from error
    if not content.strip():
        raise ConfigurationError(code, f"{path} is empty; give {wanted}")
    return SecretBytes(content.strip())
