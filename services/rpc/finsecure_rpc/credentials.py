"""TLS credentials: servers take renewed certificates at the next handshake, without a restart."""

import grpc

from finsecure_rpc.identity_store import Identity, IdentityProvider
from finsecure_rpc.logs import get_logger

_log = get_logger(__name__)


def server_credentials(
    provider: IdentityProvider, *, client_certificates: bool = True
) -> grpc.ServerCredentials:
    """Credentials of a server that follow its identity.

    Args:
        provider: asked at each handshake; cheap when nothing changed.
        client_certificates: demand a certificate below the pinned root. False only for
            listeners of newcomers and of people with tokens.
    """
    first = provider.current()
    served = first.generation

    def configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(identity.tls_key_pem.expose(), identity.tls_chain_pem)],
            root_certificates=identity.root_pem if client_certificates else None,
        )

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        try:
            identity = provider.current()
        except Exception:  # on gRPC's thread: the last good identity stays
            _log.exception("renewed certificates cannot be read")
            return None
        if identity.generation == served:
            return None
        served = identity.generation
        return configuration(identity)

    return grpc.dynamic_ssl_server_credentials(
        configuration(first),
        fetch,  # type: ignore[arg-type] # None means: no change
        require_client_authentication=client_certificates,
    )


def channel_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Credentials of a member; they never change, so a renewal needs a new channel."""
    return grpc.ssl_channel_credentials(
        root_certificates=identity.root_pem,
        private_key=identity.tls_key_pem.expose(),
        certificate_chain=identity.tls_chain_pem,
    )
