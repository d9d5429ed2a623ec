"""The operator's enrolment."""

from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.enrolment import enrol, read_root
from finsecure_rpc.identity_store import Identity, IdentityStore

from finsecure_cli.settings import OperatorSettings


async def enrol_operator(settings: OperatorSettings, api_key: SecretBytes) -> Identity:
    """Spend an API key for the operator's identity.

    Raises:
        ConfigurationError: IDENTITY_EXISTS, as an identity is never overwritten; ROOT_MISSING.
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
