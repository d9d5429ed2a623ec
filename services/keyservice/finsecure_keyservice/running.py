"""The stages of a process: sealed until operators have unsealed it, then open until it is told."""

from contextlib import AsyncExitStack

from finsecure_crypto.errors import FinSecureError
from finsecure_rpc.logs import get_logger

from finsecure_keyservice.config import Configuration
from finsecure_keyservice.seal.serving import sealed_server
from finsecure_keyservice.seal.unsealing import Unsealed, Unsealing
from finsecure_keyservice.serving import opened

_log = get_logger(__name__)
_REPLY_S = 1.0
"""How long the reply to the call that ends a stage may take."""


async def serve(configuration: Configuration, failure: str = "") -> str | None:
    """Serve until the process is told to stop, or its memory must not live on.

    Args:
        configuration: of the key service.
        failure: what this returned to the process before.

    Returns:
        None when told to stop. Otherwise the process has to start anew, sealed: empty if a security
        officer said so, or the code of why it could not serve although it had been unsealed.

    Raises:
        ConfigurationError: what `opened`, `Unsealing` and `sealed_server` raise.
    """
    if configuration.seal is None:
        async with opened(configuration) as server:
            await server.serve(configuration.shutdown_grace_s)
        return None
    unsealed = await _wait_for_shares(configuration, failure)
    if unsealed is None:
        return None
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(opened(configuration, unsealed=unsealed))
        except FinSecureError as error:
            _log.error("unsealed, but it cannot serve; sealed again", exc_info=error)
            return error.code
        grace_s = max(configuration.shutdown_grace_s, _REPLY_S)
        return None if await server.serve(grace_s, unsealed.sealing) else ""


async def _wait_for_shares(configuration: Configuration, failure: str) -> Unsealed | None:
    """The sealed stage; None when the process is told to stop."""
    unsealing = Unsealing(configuration.protected_by, failure)
    _log.warning("sealed; waiting for shares", set=unsealing.seal.set_id)
    try:
        stopped = await sealed_server(configuration, unsealing).serve(_REPLY_S, unsealing.enough)
    finally:
        unsealing.forget()
    return None if stopped else unsealing.unsealed
