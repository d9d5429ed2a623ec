"""Tokens of people who sign in at an OpenID provider, if the configuration names one."""

from collections.abc import Callable, Coroutine
from typing import Any

from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc.bearer import Bearers
from finsecure_rpc.oidc_settings import OidcSettings

from finsecure_keyservice.clock import Clock


async def _nothing() -> None:
    """What there is to do in the background for keys in a file."""


def open_tokens(
    settings: OidcSettings | None, domain: str, clock: Clock
) -> tuple[Bearers | None, Callable[[], Coroutine[Any, Any, None]]]:
    """What verifies tokens, and what has to run in the background for it.

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
        return OidcVerifier(settings, FileKeys(settings.jwks_file), domain, clock), _nothing
    keys = HttpsKeys(settings.jwks_url or "")
    return OidcVerifier(settings, keys, domain, clock), keys.run
