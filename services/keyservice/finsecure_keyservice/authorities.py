"""The authorities of one key service with their keys: which one issues, and which are believed."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto import transcript
from finsecure_crypto.certificates import TrustAnchors
from finsecure_crypto.errors import ConfigurationError, IntegrityError
from finsecure_crypto.signatures import SignatureAlgorithm, load_public_key

from finsecure_keyservice.authority import Authority, Root
from finsecure_keyservice.authority_store import (
    BELIEVED,
    AuthorityRecord,
    AuthorityState,
    AuthorityStore,
)
from finsecure_keyservice.protection.authority_key import authority_key
from finsecure_keyservice.protection.vault import Vault


@dataclass(frozen=True)
class Believed:
    """Who is believed at an instant.

    Attributes:
        anchors: the root and the intermediates below it.
        active: id of the authority that issues.
        end: when that one's certificate ends.
        tainted: subject key identifiers of those on their way out.
    """

    anchors: TrustAnchors
    active: str
    end: datetime
    tainted: frozenset[bytes]


class Authorities:
    """Opens the keys of authorities.

    Args:
        root: the root certificate.
        vault: where the keys lie.
    """

    def __init__(self, root: x509.Certificate, vault: Vault) -> None:
        self._root = root
        self._vault = vault
        self._open: dict[str, Authority] = {}

    @property
    def root(self) -> x509.Certificate:
        """The root certificate."""
        return self._root

    def request(self, store: AuthorityStore, now: datetime) -> AuthorityRecord:
        """Make the key of a new authority and the request for the root to sign."""
        stored = self._vault.generate(
            SignatureAlgorithm.EC_P256_SHA256, lambda public: _context(_id(public))
        )
        key = authority_key(stored.signer)
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .sign(key, hashes.SHA256())
        )
        record = AuthorityRecord(
            id=_id(stored.signer.public_key),
            state=AuthorityState.REQUESTED,
            handle=stored.handle,
            csr=csr.public_bytes(Encoding.DER),
            create_time=now,
        )
        store.add(record)
        return record

    def rewrap(self, store: AuthorityStore) -> int:
        """Wrap all keys anew under the newest key-encryption key; returns how many there are."""
        records = store.in_states(list(AuthorityState))
        for record in records:
            handle = self._vault.rewrap(record.handle, _context(record.id))
            store.update(replace(record, handle=handle))
        return len(records)

    def found(
        self, store: AuthorityStore, root: Root, now: datetime, lifetime: timedelta
    ) -> Authority:
        """Make the first authority, certified by a root whose key is at hand; done once."""
        record = self.request(store, now)
        authority = root.create_intermediate(now, lifetime, self._key(record))
        certificate = authority.certificate
        founded = replace(
            record,
            state=AuthorityState.ACTIVE,
            certificate=certificate.public_bytes(Encoding.DER),
            install_time=now,
            not_after=certificate.not_valid_after_utc,
        )
        store.update(founded)
        return authority

    def active(self, store: AuthorityStore) -> Authority:
        """The authority that issues.

        Raises:
            ConfigurationError: STATE_DAMAGED if it or its key is missing, or as `Vault.open`.
            UnavailableError: as `Vault.open`.
        """
        found = store.in_states([AuthorityState.ACTIVE])
        if len(found) != 1 or found[0].certificate is None:
            raise _damaged()
        record = found[0]
        if record.id not in self._open:
            certificate = x509.load_der_x509_certificate(found[0].certificate)
            key = self._key(record)
            if key.public_key() != certificate.public_key():
                raise _damaged()
            self._open[record.id] = Authority(self._root, certificate, key)
        return self._open[record.id]

    def believed(self, store: AuthorityStore) -> Believed:
        """Who is believed now, the authority that issues first.

        Raises:
            ConfigurationError: STATE_DAMAGED.
        """
        records = sorted(
            store.in_states(BELIEVED), key=lambda record: record.state is not AuthorityState.ACTIVE
        )
        if not records or records[0].state is not AuthorityState.ACTIVE:
            raise _damaged()
        end = records[0].not_after
        if end is None:
            raise _damaged()
        return Believed(
            anchors=TrustAnchors(
                (self._root.public_bytes(Encoding.DER),),
                tuple(record.certificate for record in records if record.certificate is not None),
            ),
            active=records[0].id,
            end=end,
            tainted=frozenset(
                bytes.fromhex(record.id)
                for record in records
                if record.state is AuthorityState.TAINTED
            ),
        )

    def _key(self, record: AuthorityRecord) -> ec.EllipticCurvePrivateKey:
        try:
            signer = self._vault.open(
                SignatureAlgorithm.EC_P256_SHA256, record.handle, _context(record.id)
            )
        except IntegrityError as error:
            raise _damaged() from error
        return authority_key(signer)


def _id(public_key: bytes) -> str:
    key = load_public_key(SignatureAlgorithm.EC_P256_SHA256, public_key)
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101  # by its algorithm
    return x509.SubjectKeyIdentifier.from_public_key(key).digest.hex()


def _context(authority: str) -> bytes:
    return transcript.encode("authority-key", authority)


def _damaged() -> ConfigurationError:
    return ConfigurationError(
        "STATE_DAMAGED",
        "the intermediate authorities in the database do not fit together or to the root; restore "
        "the backup",
    )
