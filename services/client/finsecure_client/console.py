"""Errors as people see them: one line on standard error and an exit code that means something."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finsecure_crypto import errors
from finsecure_crypto.secret import SecretBytes

EXIT_CODES: dict[type[errors.FinSecureError], int] = {
    errors.ConfigurationError: 2,
    errors.InvalidArgumentError: 2,
    errors.AuthenticationError: 3,
    errors.PermissionDeniedError: 3,
    errors.NotFoundError: 4,
    errors.UnavailableError: 5,
}
_MOST_KEY_BYTES = 4096


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors into one line and an exit code: 2 configuration, 3 authentication or
    permission, 4 not found, 5 unavailable, 1 everything else.
    """  # noqa: D205
    try:
        yield
    except errors.FinSecureError as error:
        print(f"error: {error}", file=sys.stderr)
        codes = (code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
        raise SystemExit(next(codes, 1)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(
            f"error: {type(error).__name__} at {place.filename}:{place.lineno}; this is a defect, "
            "report it with this line [INTERNAL]",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


def read_api_key(path: Path) -> SecretBytes:
    """Read an API key from a file, or from standard input where the path is `-`.

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
        raise errors.ConfigurationError(
            "API_KEY_MISSING", f"{path} cannot be read ({error.strerror}); give the key's file"
        ) from error
    if not content.strip():
        raise errors.ConfigurationError(
            "API_KEY_MISSING", "the API key is empty; give the key that the operator sent you"
        )
    return SecretBytes(content.strip())
