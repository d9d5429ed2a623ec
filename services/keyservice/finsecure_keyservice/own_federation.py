"""What members read: that of their own federation, and nothing of another one."""

from finsecure_crypto.errors import PermissionDeniedError
from finsecure_rpc.peer import require_peer

from finsecure_keyservice.names import federation_id, trust_domain


def require_own_federation(federation: str, domain: str) -> None:
    """Let the member that calls read what is of its own federation alone.

    Args:
        federation: resource name.
        domain: of the key service.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        PermissionDeniedError: FEDERATION_FOREIGN, whether what it asks for exists or not.
    """
    peer = require_peer()
    if peer.role.federated and peer.trust_domain != trust_domain(federation_id(federation), domain):
        raise PermissionDeniedError(
            "FEDERATION_FOREIGN", "members read what is of their own federation alone"
        )
