"""The key service's own certificates, which it issues to itself before they are needed."""

from datetime import datetime

from finsecure_crypto.certificates import Role, SpiffeId, TrustAnchors
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.intermediate import BACKDATE
from finsecure_rpc.identity_store import Credentials, Identity, IdentityStore
from finsecure_rpc.requests import new_keys

from finsecure_keyservice.authorities import Believed
from finsecure_keyservice.enrolment import Enrolment, Requests
from finsecure_keyservice.store import Store

HOLDER = "keyservice/main"
"""Name that its certificates are booked under."""


class OwnIdentity:
    """Keys and certificates of the server itself; each renewal makes fresh keys."""

    def __init__(self, store: IdentityStore, enrolment: Enrolment) -> None:
        self._store = store
        self._enrolment = enrolment

    @property
    def spiffe_id(self) -> SpiffeId:
        """Who the server is."""
        return SpiffeId(self._enrolment.domain, Role.KEYSERVICE, "main")

    def current(self) -> Identity:
        """The newest identity; see `IdentityStore`."""
        return self._store.current()

    def due(self, now: datetime, revoked: frozenset[int], believed: Believed) -> bool:
        """Whether it is missing, damaged, revoked, of other authorities, or past its half-life."""
        try:
            identity = self._store.current()
        except ConfigurationError:
            return True
        certified = (identity.certified, identity.signing)
        if identity.anchors != believed.anchors or any(
            certificate.serial in revoked or certificate.issuer.hex() != believed.active
            for certificate in certified
        ):
            return True
        start = identity.certified.not_before + BACKDATE
        end = identity.certified.not_after
        return not start <= now < start + (end - start) / 2

    def prepare(self, store: Store, now: datetime, anchors: TrustAnchors) -> Credentials:
        """Issue fresh certificates within a transaction; `install` them after its commit."""
        keys = new_keys()
        identity = self.spiffe_id
        requests = Requests(keys.tls_csr, keys.signing_csr)
        tls, signing = self._enrolment.certify(store, identity, HOLDER, requests, now)
        return Credentials(
            tls_key_pem=keys.tls_key_pem,
            signing_key=keys.signing_key,
            tls_certificate=tls.der,
            signing_certificate=signing.der,
            anchors=anchors,
            member={"name": HOLDER, "spiffe_id": str(identity)},
        )

    def install(self, credentials: Credentials) -> Identity:
        """Put issued certificates into use."""
        return self._store.save(credentials)
