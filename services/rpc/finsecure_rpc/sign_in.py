"""People who sign in at an OpenID provider, if the configuration of a service names one."""

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from finsecure_crypto.errors import ConfigurationError

from finsecure_rpc.authenticator import utc_now
from finsecure_rpc.bearer import TokenDoor
from finsecure_rpc.oidc_settings import OidcSettings


async def _nothing() -> None:
    """What there is to do in the background for keys in a file."""


def open_door(
    settings: OidcSettings | None,
    domain: str,
    methods: frozenset[str],
    clock: Callable[[], datetime] = utc_now,
) -> tuple[TokenDoor | None, Callable[[], Coroutine[Any, Any, None]]]:
    """Where people come in with tokens, and what has to run in the background for it.

    Args:
        settings: the rules; None opens no door.
        domain: that the people act in.
        methods: full names of those that take a token.
        clock: aware UTC time.

    Raises:
        ConfigurationError: EXTRA_MISSING or JWKS_INVALID.
    """
    if settings is None:
        return None, _nothing
    try:
        from finsecure_rpc.jwks import FileKeys, HttpsKeys
        from finsecure_rpc.oidc import OidcVerifier
    except ImportError as error:
        raise ConfigurationError(
            "EXTRA_MISSING", "tokens need the extra: pip install 'finsecure[oidc]'"
        ) from error
    if settings.jwks_file is not None:
        verifier = OidcVerifier(settings, FileKeys(settings.jwks_file), domain, clock)
        return TokenDoor(verifier, methods), _nothing
    keys = HttpsKeys(settings.jwks_url or "")
    return TokenDoor(OidcVerifier(settings, keys, domain, clock), methods), keys.run
