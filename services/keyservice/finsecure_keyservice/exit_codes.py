"""How an error of a command looks to people, one line, and to machines, an exit code."""

from finsecure_crypto import errors

_CODES: dict[type[Exception], int] = {
    errors.ConfigurationError: 2,
    errors.InvalidArgumentError: 2,
    OSError: 2,
    errors.AuthenticationError: 3,
    errors.PermissionDeniedError: 3,
    errors.NotFoundError: 4,
    errors.UnavailableError: 5,
}


def exit_code(error: Exception) -> int:
    """Exit code of a command that ended with an error."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), 1)


def error_line(error: Exception) -> str:
    """The one line that a person sees."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"error: {where}{error.strerror}; check the path and its rights [FILE_ERROR]"
    return f"error: {' '.join(str(error).split())}"
