"""The server of a sealed key service: health, and the way to open it; nothing else is answered."""

from typing import NoReturn

import grpc
from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.logs import get_logger
from finsecure_rpc.policy import ANYONE, Limits, Policy, Rate
from finsecure_rpc.server import Listener, RpcServer, build_server
from finsecure_rpc.unsealing import local_target

from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.seal.service import ClosedSeal, sealed_error, service
from finsecure_keyservice.seal.share_set import share_file
from finsecure_keyservice.seal.unsealing import Unsealing
from finsecure_keyservice.state import StateFolder

_log = get_logger(__name__)
POLICY: Policy = {
    "/finsecure.keyservice.v1.SealService/GetSealStatus": ANYONE,
    "/finsecure.keyservice.v1.SealService/Unseal": ANYONE,
}
_MOST_SOCKET_PATH = 100


def sealed_server(configuration: Configuration, unsealing: Unsealing) -> RpcServer:
    """A server that takes shares, to be started.

    It proves itself with the certificate that it last had. Beside the two addresses it listens on a
    socket in the state folder: who may open that is on the service's own machine and its owner, so
    no certificate, which may have expired meanwhile, has to say so.

    Raises:
        ConfigurationError: IDENTITY_MISSING, IDENTITY_DAMAGED, LISTEN_FAILED,
            SOCKET_PATH_TOO_LONG.
    """
    folder = StateFolder(configuration.state_dir)
    own = IdentityStore(folder.identity)
    if len(str(folder.socket.absolute()).encode()) > _MOST_SOCKET_PATH:
        raise ConfigurationError(
            "SOCKET_PATH_TOO_LONG",
            f"{folder.socket} is too long for the name of a socket; choose a shorter `state_dir`",
        )
    _warn_of_shares(configuration, unsealing)
    return build_server(
        [service(ClosedSeal(unsealing))],
        POLICY,
        # Who comes with a certificate cannot be checked without the keys.
        Authenticator(_refuse, _NoList(), lambda _: False, system_clock),
        [
            Listener(configuration.listen, server_credentials(own)),
            Listener(
                configuration.enrol_listen, server_credentials(own, client_certificates=False)
            ),
            Listener(
                local_target(folder.socket),
                grpc.local_server_credentials(grpc.LocalConnectionType.UDS),
            ),
        ],
        Limits(anonymous_rate=Rate.steady(configuration.limits.enrolment_calls_per_s)),
        closed=sealed_error,
    )


class _NoList:
    """A `RevocationSource` that has none."""

    def current(self) -> NoReturn:
        """See `RevocationSource`."""
        raise sealed_error()


def _refuse() -> NoReturn:
    raise sealed_error()


def _warn_of_shares(configuration: Configuration, unsealing: Unsealing) -> None:
    if configuration.seal is None:
        return
    numbers = range(1, len(unsealing.seal.digests) + 1)
    folder = configuration.seal.shares_dir
    if any(share_file(folder, unsealing.seal.set_id, number).exists() for number in numbers):
        _log.warning("operators' shares are still on this machine; hand them out", path=str(folder))
