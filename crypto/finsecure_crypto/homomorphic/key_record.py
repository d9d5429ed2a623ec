"""What trustees sign about an encryption key, and how everybody who uses the key checks it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from finsecure_crypto import signing, transcript
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.homomorphic.decryption import PublicKeyOf
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.registry import load_key
from finsecure_crypto.homomorphic.scheme import EncryptionKey
from finsecure_crypto.homomorphic.statements import Statement


class Generation(Enum):
    """How the shares of a key came to be."""

    DISTRIBUTED = "distributed"  # by the trustees together; nobody ever had the secret key
    DEALER = "dealer"  # by a dealer, offline, who had the secret key for a moment


class KeyState(Enum):
    """Where a key stands, in the words of Cloud KMS as far as they apply."""

    ENABLED = "enabled"  # encrypts and decrypts
    DEACTIVATED = "deactivated"  # decrypts what was encrypted before
    DISABLED = "disabled"  # neither; may come back
    DESTROYED = "destroyed"  # out for good
    COMPROMISED = "compromised"  # out for good

    @property
    def encrypts(self) -> bool:
        """Whether new values may be encrypted."""
        return self is KeyState.ENABLED

    @property
    def decrypts(self) -> bool:
        """Whether sums may be opened."""
        return self in (KeyState.ENABLED, KeyState.DEACTIVATED)


TRANSITIONS: dict[KeyState, frozenset[KeyState]] = {
    KeyState.ENABLED: frozenset(
        {KeyState.DEACTIVATED, KeyState.DISABLED, KeyState.DESTROYED, KeyState.COMPROMISED}
    ),
    KeyState.DEACTIVATED: frozenset(
        {KeyState.ENABLED, KeyState.DISABLED, KeyState.DESTROYED, KeyState.COMPROMISED}
    ),
    KeyState.DISABLED: frozenset(
        {KeyState.ENABLED, KeyState.DEACTIVATED, KeyState.DESTROYED, KeyState.COMPROMISED}
    ),
    KeyState.DESTROYED: frozenset(),
    KeyState.COMPROMISED: frozenset(),
}
"""Where a key may go from each state."""


@dataclass(frozen=True)
class KeyDescription:
    """What there is to say of an encryption key beside the key itself.

    Attributes:
        name: `federations/{federation}/encryptionKeys/{key}`.
        mode: the scheme.
        generation: how its shares came to be.
        holders: trustees that hold a share.
        threshold: trustees that open a sum together.
        digest: `EncryptionKey.digest()`, 32 bytes.
    """

    name: str
    mode: Mode
    generation: Generation
    holders: int
    threshold: int
    digest: bytes

    def endorsement(self, holder: int) -> Statement:
        """States that the signer holds share number `holder` of this very key."""
        return (
            "encryption-key",
            self.name,
            self.mode.value,
            self.generation.value,
            self.holders,
            self.threshold,
            self.digest,
            holder,
        )


@dataclass(frozen=True)
class Endorsement:
    """One trustee's signature over a key.

    Attributes:
        trustee: id of the trustee.
        holder: its number among the holders, from 1.
        signature: Ed25519 signature over `KeyDescription.endorsement`, 64 bytes.
        certificate: signing certificate of the trustee, DER.
    """

    trustee: str
    holder: int
    signature: bytes
    certificate: bytes = field(repr=False)


def state_digest(key: KeyDescription, state: KeyState) -> bytes:
    """What stands for a key's going to a state in the key service's log, 32 bytes."""
    return transcript.digest("encryption-key-state", key.name, key.digest, state.value)


def verify_endorsements(
    description: KeyDescription, endorsements: Sequence[Endorsement], public_key_of: PublicKeyOf
) -> None:
    """Checks that each holder, and each a different trustee, has signed the key.

    Args:
        description: of the key.
        endorsements: in any order.
        public_key_of: verifies a certificate as that of the trustee with an id.

    Raises:
        IntegrityError: `KEY_NOT_ENDORSED`; the key must not be used.
        AuthenticationError: what `public_key_of` raises.
    """
    if sorted(item.holder for item in endorsements) != list(range(1, description.holders + 1)):
        raise _not_endorsed(description, "not every holder has signed it once")
    if len({item.trustee for item in endorsements}) != len(endorsements):
        raise _not_endorsed(description, "one trustee holds two shares")
    for item in endorsements:
        public_key = public_key_of(item.trustee, item.certificate)
        if not signing.verify(public_key, item.signature, *description.endorsement(item.holder)):
            raise _not_endorsed(description, f"the signature of {item.trustee} does not verify")


def verified_key(description: KeyDescription, public_key: bytes) -> EncryptionKey:
    """Reads a public key and checks that it is the one that is described.

    Raises:
        IntegrityError: `KEY_MALFORMED`, or `KEY_DIGEST_MISMATCH`; whoever delivered it.
        ConfigurationError: `EXTRA_MISSING` where the mode's library is not installed.
    """
    key = load_key(description.mode, public_key)
    if (key.digest(), key.holders, key.threshold) != (
        description.digest,
        description.holders,
        description.threshold,
    ):
        raise IntegrityError(
            "KEY_DIGEST_MISMATCH",
            f"the public key that was delivered is not {description.name} as the trustees signed "
            "it; do not use it",
        )
    return key


def _not_endorsed(description: KeyDescription, reason: str) -> IntegrityError:
    return IntegrityError(
        "KEY_NOT_ENDORSED",
        f"{description.name} must not be used: {reason}; ask the operator who registered it",
    )
