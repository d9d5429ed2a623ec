"""As whom commands call the services: with the operator's certificate, or with a person's token."""

from typing import Protocol

import grpc
from finsecure_crypto.certificates import Role, SpiffeId, TrustAnchors
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.channel import open_channel, open_token_channel
from finsecure_rpc.enrolment import pinned_roots, read_root
from finsecure_rpc.identity_store import IdentityStore

from finsecure_cli.settings import OperatorSettings


class Caller(Protocol):
    """Whoever calls, and whom it believes."""

    @property
    def anchors(self) -> TrustAnchors:
        """The authorities that are believed."""

    def adopt(self, intermediates: tuple[bytes, ...]) -> None:
        """Believe these intermediates, DER, from now on, below the same pinned root."""

    def open(self, role: Role) -> grpc.aio.Channel:
        """Open a channel to the key service, or to the federation's aggregator."""


class CertificateCaller:
    """Calls with the certificate of an enrolled operator.

    Raises:
        ConfigurationError: IDENTITY_MISSING or IDENTITY_DAMAGED.
    """

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._store = IdentityStore(settings.identity_dir)
        self._identity = self._store.current()

    @property
    def anchors(self) -> TrustAnchors:
        """See `Caller`."""
        return self._identity.anchors

    def adopt(self, intermediates: tuple[bytes, ...]) -> None:
        """See `Caller`."""
        self._identity = self._store.adopt(intermediates)

    def open(self, role: Role) -> grpc.aio.Channel:
        """See `Caller`."""
        aggregator = role is Role.AGGREGATOR
        address = self._settings.aggregator if aggregator else self._settings.keyservice
        return open_channel(address, self._identity, _server_name(self._settings, self, role))


class TokenCaller:
    """Calls with a token of the OpenID provider, at the listeners that take them.

    Raises:
        ConfigurationError: ROOT_MISSING or ROOT_INVALID.
    """

    def __init__(self, settings: OperatorSettings, token: SecretBytes) -> None:
        self._settings = settings
        self._token = token
        self._root_pem = read_root(settings.root)
        self._anchors = TrustAnchors(pinned_roots(self._root_pem), ())

    @property
    def anchors(self) -> TrustAnchors:
        """See `Caller`."""
        return self._anchors

    def adopt(self, intermediates: tuple[bytes, ...]) -> None:
        """See `Caller`."""
        self._anchors = TrustAnchors(self._anchors.roots, intermediates)

    def open(self, role: Role) -> grpc.aio.Channel:
        """See `Caller`.

        Raises:
            ConfigurationError: ADDRESS_MISSING.
        """
        address = self._settings.keyservice_enrol
        if role is Role.AGGREGATOR:
            if self._settings.aggregator_operators is None:
                raise ConfigurationError(
                    "ADDRESS_MISSING",
                    "with a token the aggregator is called where people are: write its "
                    "operator_listen into the configuration as aggregator_operators",
                )
            address = self._settings.aggregator_operators
        name = _server_name(self._settings, self, role)
        return open_token_channel(address, self._root_pem, name, self._token)


def _server_name(settings: OperatorSettings, caller: Caller, role: Role) -> str:
    """The name that the server has to prove: identity over location."""
    domain = caller.anchors.domain
    if role is Role.AGGREGATOR:
        domain = f"{settings.federation}.{domain}"
    return SpiffeId(domain, role, "main").server_name
