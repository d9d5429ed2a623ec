"""The operator's enrolment, and where an API key may come from."""

import sys
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.enrolment import enrol
from finsecure_rpc.identity_store import Identity, IdentityStore

from finsecure_cli.settings import OperatorSettings

_MOST_BYTES = 256
_FROM_STDIN = Path("-")


def read_api_key(path: Path) -> SecretBytes:
    """Read an API key from a file, or from standard input if the path is `-`.

    Raises:
        ConfigurationError: API_KEY_MISSING, the caller's fault.
    """
    try:
        if path == _FROM_STDIN:
            content = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with path.open("rb") as stream:
                content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            "API_KEY_MISSING", f"the API key file {path} cannot be read: {error.strerror}"
        ) from error
    api_key = content.strip()
    if not api_key.startswith(b"fs_") or len(content) > _MOST_BYTES:
        raise ConfigurationError(
            "API_KEY_MISSING", f"{path} holds no API key; one begins with fs_ and is one line"
        )
    return SecretBytes(api_key)


def read_root(path: Path) -> bytes:
    """Read the pinned root certificate.

    Raises:
        ConfigurationError: ROOT_MISSING.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "ROOT_MISSING",
            f"the root certificate {path} cannot be read ({error.strerror}); copy the one that "
            "the key service's owner gave you",
        ) from error


async def enrol_operator(settings: OperatorSettings, api_key: SecretBytes) -> Identity:
    """Spend an API key for the operator's identity.

    Raises:
        ConfigurationError: IDENTITY_EXISTS; an identity is never overwritten.
        AuthenticationError, UnavailableError: what the key service says.
    """
    if IdentityStore(settings.identity_dir).exists():
        raise ConfigurationError(
            "IDENTITY_EXISTS",
            f"{settings.identity_dir} holds an identity already; use it, or name another "
            "identity_dir",
        )
    return await enrol(
        settings.keyservice_enrol, read_root(settings.root), api_key, settings.identity_dir
    )
