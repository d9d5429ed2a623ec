"""The register of homomorphic keys: what is entered, and where a key may go from where it is.

The key service never sees a share, and it does not take the operator's word for a key either: it
enters what all trustees have signed. Whoever uses a key checks the same signatures again.
"""

from collections.abc import Sequence
from datetime import datetime

from finsecure_crypto.certificates import (
    Purpose,
    RevocationList,
    Role,
    SpiffeId,
    TrustAnchors,
    verify_certificate,
    verify_member,
)
from finsecure_crypto.errors import ConflictError, IntegrityError, NotFoundError, StateError
from finsecure_crypto.homomorphic.key_record import (
    TRANSITIONS,
    Endorsement,
    KeyDescription,
    KeyState,
    state_digest,
    verify_endorsements,
)
from finsecure_crypto.homomorphic.scheme import key_digest

from finsecure_keyservice.encryption_key_store import EncryptionKeyRecord, EncryptionKeyStore
from finsecure_keyservice.names import federation_id, trust_domain


def verify(
    description: KeyDescription,
    endorsements: Sequence[Endorsement],
    public_key: bytes,
    anchors: TrustAnchors,
    revocations: RevocationList,
    now: datetime,
) -> None:
    """Demand that all holders, trustees of the key's federation, have signed this very key.

    Raises:
        IntegrityError: KEY_DIGEST_MISMATCH or KEY_NOT_ENDORSED; the operator's, or a trustee's.
        AuthenticationError: a trustee's certificate does not hold.
    """
    if key_digest(description.mode, public_key) != description.digest:
        raise IntegrityError(
            "KEY_DIGEST_MISMATCH",
            f"the public key is not {description.name} as it is described; run the ceremony's "
            "last step again",
        )
    domain = trust_domain(federation_id(parent_of(description.name)), anchors.domain)

    def public_key_of(trustee: str, certificate: bytes) -> bytes:
        member = SpiffeId(domain, Role.TRUSTEE, trustee)
        return verify_member(certificate, anchors, revocations, now, member)

    verify_endorsements(description, endorsements, public_key_of)


def register(
    store: EncryptionKeyStore,
    description: KeyDescription,
    endorsements: Sequence[Endorsement],
    public_key: bytes,
    now: datetime,
) -> EncryptionKeyRecord:
    """Enter a verified key; it is enabled at once.

    Raises:
        ConflictError: KEY_EXISTS; names are never given again.
    """
    if store.get(description.name) is not None:
        raise ConflictError(
            "KEY_EXISTS", f"{description.name} is registered; a new key needs a new name"
        )
    record = EncryptionKeyRecord(
        description,
        parent_of(description.name),
        len(public_key),
        tuple(sorted(endorsements, key=lambda item: item.holder)),
        KeyState.ENABLED,
        now,
        now,
    )
    store.add(record, public_key)
    store.trail.record(
        "encryption-key.register",
        description.name,
        published=description.digest,
        mode=description.mode.value,
        generation=description.generation.value,
        holders=description.holders,
        threshold=description.threshold,
        trustees=",".join(item.trustee for item in record.endorsements),
    )
    return record


def require_lasting(
    endorsements: Sequence[Endorsement],
    anchors: TrustAnchors,
    tainted: frozenset[bytes],
    now: datetime,
) -> None:
    """Refuse verified endorsements under certificates of an authority that is on its way out.

    Raises:
        StateError: ENDORSEMENT_TAINTED; the trustee has not renewed yet.
    """
    for each in endorsements:
        certified = verify_certificate(each.certificate, anchors, None, now, Purpose.SIGNING)
        if certified.issuer in tainted:
            raise StateError(
                "ENDORSEMENT_TAINTED",
                f"{each.trustee} signed under a certificate of an authority that is on its way "
                "out: try again when it has renewed, in half a minute",
            )


def renew_endorsements(
    store: EncryptionKeyStore, name: str, endorsements: Sequence[Endorsement], now: datetime
) -> EncryptionKeyRecord:
    """Replace the endorsements of a key by verified ones of the same trustees.

    Raises:
        NotFoundError: KEY_UNKNOWN.
        StateError: ENDORSERS_DIFFER; shares do not move from one trustee to another.
    """
    before = get(store, name).endorsements
    ordered = tuple(sorted(endorsements, key=lambda item: item.holder))
    if [(item.holder, item.trustee) for item in ordered] != [
        (item.holder, item.trustee) for item in before
    ]:
        raise StateError(
            "ENDORSERS_DIFFER",
            f"other trustees signed than hold the shares of {name}; a key with other trustees is "
            "a new key",
        )
    store.replace_endorsements(name, ordered, now)
    store.trail.record(
        "encryption-key.renew-endorsements",
        name,
        trustees=",".join(item.trustee for item in ordered),
    )
    return get(store, name)


def get(store: EncryptionKeyStore, name: str) -> EncryptionKeyRecord:
    """Read a key.

    Raises:
        NotFoundError: KEY_UNKNOWN.
    """
    record = store.get(name)
    if record is None:
        raise NotFoundError("KEY_UNKNOWN", f"there is no encryption key {name}; list what there is")
    return record


def set_state(
    store: EncryptionKeyStore, name: str, state: KeyState, reason: str
) -> EncryptionKeyRecord:
    """Move a key to another state.

    Raises:
        NotFoundError: KEY_UNKNOWN.
        StateError: KEY_STATE for a transition that does not exist.
    """
    record = get(store, name)
    before = record.state
    if state not in TRANSITIONS[before]:
        raise StateError("KEY_STATE", f"{name} is {before.value} and cannot become {state.value}")
    store.set_state(name, state)
    store.trail.record(
        "encryption-key.set-state",
        name,
        sealed={"reason": reason},
        published=state_digest(record.description, state),
        before=before.value,
        after=state.value,
    )
    return get(store, name)


def parent_of(name: str) -> str:
    """`federations/{federation}` of a key's name."""
    return name.partition("/encryptionKeys/")[0]
