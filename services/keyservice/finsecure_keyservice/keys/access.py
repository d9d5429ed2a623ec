"""Who may touch which federation's keys: a member those of its own, people those of all."""

from finsecure_crypto.certificates import SpiffeId
from finsecure_crypto.errors import PermissionDeniedError

from finsecure_keyservice.keys.names import federation_of
from finsecure_keyservice.names import federation_id, trust_domain


def require_own_federation(caller: SpiffeId, name: str, domain: str) -> None:
    """Refuse a member that asks for a key of another federation, whether that exists or not.

    Raises:
        PermissionDeniedError: FEDERATION_NOT_YOURS.
        InvalidArgumentError: NAME_MALFORMED.
    """
    if not caller.role.federated:
        return
    if caller.trust_domain != trust_domain(federation_id(federation_of(name)), domain):
        raise PermissionDeniedError(
            "FEDERATION_NOT_YOURS", "this is not a key of your federation; ask for your own keys"
        )
