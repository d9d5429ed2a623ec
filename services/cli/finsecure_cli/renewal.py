"""Renew the operator's certificates when a command finds them past half of their life."""

from datetime import UTC, datetime

from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import AuthenticationError, UnavailableError
from finsecure_rpc.connection import Connection
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.renewal import Renewer, is_tainted

from finsecure_cli.settings import OperatorSettings


async def renew_if_due(settings: OperatorSettings) -> None:
    """Renew the certificates past their half-life, or of an authority that is on its way out.

    Commands are too short for a background task.

    Raises:
        AuthenticationError: CERTIFICATE_EXPIRED, where it is too late to renew.
    """
    store = IdentityStore(settings.identity_dir)
    certified = store.current().certified
    now = datetime.now(UTC)
    if now > certified.not_after:
        raise AuthenticationError(
            "CERTIFICATE_EXPIRED",
            f"the certificate in {settings.identity_dir} expired at {certified.not_after}; get a "
            "new API key, empty the folder, and run `finsecure operator enrol`",
        )
    half = certified.not_before + (certified.not_after - certified.not_before) / 2
    async with Connection(settings.keyservice, store, Role.KEYSERVICE) as connection:
        try:
            if now >= half or await is_tainted(connection, certified.issuer):
                await Renewer(store, connection).renew_now()
        except UnavailableError:
            # The present certificate still works; the next command tries again.
            return
