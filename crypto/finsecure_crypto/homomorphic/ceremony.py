"""Key ceremonies: what trustees say and sign while they make a key, or are handed a dealt one.

The operator only carries messages. Each is signed under the sender's certified key over the whole
ceremony, and what is secret is sealed to the receiver's certified key, so the operator can neither
read nor change nor swap anything; at worst it stops the ceremony. What the steps compute is the
scheme's, such as `lattice.ceremony`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from finsecure_crypto import sealing, signing, transcript
from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.encoding import CountSection, VectorLayout, rounding_generator
from finsecure_crypto.errors import (
    FinSecureError,
    IntegrityError,
    InvalidArgumentError,
    ProtocolViolationError,
    StateError,
)
from finsecure_crypto.homomorphic.decryption import PublicKeyOf
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.scheme import EncryptionKey, KeyShare
from finsecure_crypto.homomorphic.statements import Statement
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signing import SigningKey


@dataclass(frozen=True)
class TrusteeCard:
    """Who a trustee is, and the key that secrets are sealed to.

    Attributes:
        trustee: id of the trustee.
        sealing_key: X25519 public key, 32 bytes.
        signature: Ed25519 signature over both, 64 bytes.
        certificate: signing certificate of the trustee, DER.
    """

    trustee: str
    sealing_key: bytes
    signature: bytes
    certificate: bytes = field(repr=False)

    @classmethod
    def sign(
        cls, trustee: str, sealing_key: bytes, key: SigningKey, certificate: bytes
    ) -> "TrusteeCard":
        """Makes the card of the trustee with this certified signing key."""
        return cls(trustee, sealing_key, key.sign(*_card(trustee, sealing_key)), certificate)

    def verify(self, public_key_of: PublicKeyOf) -> bytes:
        """Checks the card and returns the trustee's Ed25519 public key.

        Raises:
            ProtocolViolationError: `CARD_UNSIGNED`; the trustee's, or whoever changed it.
            AuthenticationError: what `public_key_of` raises.
        """
        public = public_key_of(self.trustee, self.certificate)
        if not signing.verify(public, self.signature, *_card(self.trustee, self.sealing_key)):
            raise ProtocolViolationError(
                "CARD_UNSIGNED",
                f"the card of {self.trustee} is not signed by it; fetch it from the trustee again",
                culprit=self.trustee,
            )
        return public


def _card(trustee: str, sealing_key: bytes) -> Statement:
    return ("trustee-card", trustee, sealing_key)


def dealt_share_context(key_name: str, key_digest: bytes, holder: int, trustee: str) -> bytes:
    """What a dealt share is sealed for: this share of this key, for this trustee."""
    return transcript.digest("dealt-share", key_name, key_digest, holder, trustee)


def check_share(key: EncryptionKey, share: KeyShare, holder: int) -> None:
    """Checks, by a decryption of nothing, that a share is this holder's of this key.

    Args:
        key: the public key.
        share: of whoever was handed it.
        holder: number that the share should have.

    Raises:
        IntegrityError: `SHARE_INVALID`; the dealer's.
        InvalidArgumentError: `KEY_MISMATCH` for a share of another key; the dealer's.
    """
    layout = VectorLayout((CountSection("nothing", 1, 1),), 2)
    nothing = {"nothing": np.zeros(1, dtype=np.uint64)}
    run = b"".join(key.encrypt(layout, nothing, rounding_generator()))
    context = bytes(32)
    try:
        if share.holder != holder:
            raise ProtocolViolationError("PARTIAL_INVALID", "it has another number")
        key.verify_partial(run, holder, share.partial(key, run, context), context)
    except ProtocolViolationError as error:
        raise IntegrityError(
            "SHARE_INVALID",
            f"the share is not number {holder} of this key; do not use the key, and hold the "
            "ceremony again",
        ) from error


@dataclass(frozen=True)
class Ceremony:
    """Everything that names one ceremony.

    Attributes:
        key_name: resource name of the key that is made.
        mode: the scheme.
        nonce: 32 random bytes.
        trustees: their cards, in the order of their holder numbers.

    Raises:
        InvalidArgumentError: `CEREMONY_INVALID`; the caller's.
    """

    key_name: str
    mode: Mode
    nonce: bytes
    trustees: tuple[TrusteeCard, ...]

    def __post_init__(self) -> None:
        names = {card.trustee for card in self.trustees}
        keys = {card.sealing_key for card in self.trustees}
        if len(self.nonce) != 32 or not len(names) == len(keys) == len(self.trustees) >= 2:
            raise InvalidArgumentError(
                "CEREMONY_INVALID",
                "a ceremony has a nonce of 32 bytes and at least two trustees, all distinct",
            )

    def digest(self) -> bytes:
        """Returns the context, 32 bytes, of all that is said in the ceremony."""
        cards = [
            transcript.digest("card", card.trustee, card.sealing_key, card.certificate)
            for card in self.trustees
        ]
        return transcript.digest(
            "ceremony", self.key_name, self.mode.value, self.nonce, b"".join(cards)
        )


@dataclass(frozen=True)
class CeremonyMessage:
    """What one trustee says in one step.

    Attributes:
        holder: number of the sender, from 1.
        step: from 1.
        content: what all may read.
        secrets: sealed to one receiver each, by the receiver's number.
        signature: Ed25519 signature over ceremony and all fields, 64 bytes.
    """

    holder: int
    step: int
    content: bytes = field(repr=False)
    secrets: Mapping[int, bytes] = field(repr=False)
    signature: bytes

    def statement(self, ceremony: bytes) -> Statement:
        """What the sender signs."""
        return _message(ceremony, self.holder, self.step, self.content, self.secrets)


def _message(
    ceremony: bytes, holder: int, step: int, content: bytes, secrets: Mapping[int, bytes]
) -> Statement:
    sealed = [
        transcript.digest("ceremony-secret", receiver, secrets[receiver])
        for receiver in sorted(secrets)
    ]
    return ("ceremony-message", ceremony, holder, step, content, b"".join(sealed))


@dataclass(frozen=True)
class StepOutput:
    """What a scheme's step yields.

    Attributes:
        content: for everybody.
        secrets: for one holder each.
        made: key and share, after the last step.
    """

    content: bytes
    secrets: Mapping[int, SecretBytes] = field(default_factory=dict)
    made: tuple[EncryptionKey, KeyShare] | None = None


class Steps(Protocol):
    """A scheme's side of a ceremony, for one holder; it remembers what it needs between steps."""

    def advance(
        self, step: int, contents: Mapping[int, bytes], secrets: Mapping[int, SecretBytes]
    ) -> StepOutput:
        """Do a step.

        Args:
            step: from 1; each follows the one before.
            contents: what each holder said in the step before, by its number; empty at step 1.
            secrets: what was sealed to this holder, by the sender's number.

        Raises:
            ProtocolViolationError: what the scheme refuses, with `str(holder)` as culprit.
            IntegrityError: `CEREMONY_MALFORMED`; the sender's.
            StateError: `CEREMONY_INCOMPLETE`.
        """


class Participant:
    """One trustee in one ceremony: checks signatures, opens seals, and lets the scheme compute.

    Args:
        ceremony: with this trustee among its members.
        holder: this trustee's number.
        sealing_key: whose public half stands on this trustee's card.
        signing_key: that signed this trustee's card.
        public_keys: the verified Ed25519 key of each holder, by number.
        steps: the scheme's side.
    """

    def __init__(
        self,
        ceremony: Ceremony,
        holder: int,
        sealing_key: KeyPair,
        signing_key: SigningKey,
        public_keys: Mapping[int, bytes],
        steps: Steps,
    ) -> None:
        self._ceremony = ceremony
        self._context = ceremony.digest()
        self._holder = holder
        self._sealing_key = sealing_key
        self._signing_key = signing_key
        self._public_keys = public_keys
        self._steps = steps
        self._said: list[tuple[bytes, CeremonyMessage]] = []
        self._aborted = False
        self.made: tuple[EncryptionKey, KeyShare] | None = None

    def advance(self, step: int, messages: Sequence[CeremonyMessage]) -> CeremonyMessage:
        """Does a step, or repeats what was said in it.

        Args:
            step: from 1.
            messages: those of all holders in the step before; none at step 1.

        Raises:
            ProtocolViolationError: `MESSAGE_UNSIGNED`, with the sender as culprit, or what the
                scheme refuses.
            StateError: `CEREMONY_ORDER` for a step that is not next, `CEREMONY_CONFLICT` for one
                that was done with other messages, `CEREMONY_ABORTED` after the scheme has refused
                one: begin anew.
            IntegrityError: `CIPHERTEXT_REJECTED` for a secret that does not open.
        """
        if self._aborted:
            raise StateError(
                "CEREMONY_ABORTED",
                "a holder broke the protocol in this ceremony; begin a new one without it",
            )
        contents = self._verified(step - 1, messages)
        given = transcript.digest("ceremony-input", *(contents[each] for each in sorted(contents)))
        if step <= len(self._said):
            before, answer = self._said[step - 1]
            if before != given:
                raise StateError(
                    "CEREMONY_CONFLICT",
                    f"step {step} was done with other messages; begin a new ceremony",
                )
            return answer
        if step != len(self._said) + 1:
            raise StateError(
                "CEREMONY_ORDER",
                f"step {len(self._said) + 1} comes next, not {step}; if this trustee was "
                "restarted, begin a new ceremony",
            )
        secrets = {
            message.holder: sealing.open_sealed(
                self._sealing_key,
                message.secrets[self._holder],
                self._secret_context(message.step, message.holder, self._holder),
            )
            for message in messages
            if self._holder in message.secrets
        }
        try:
            output = self._steps.advance(step, contents, secrets)
        except FinSecureError:
            # Somebody has sent, under its own signature, what no honest holder sends.
            self._aborted = True
            raise
        answer = self._signed(step, output)
        self._said.append((given, answer))
        self.made = output.made
        return answer

    def _signed(self, step: int, output: StepOutput) -> CeremonyMessage:
        secrets = {
            receiver: sealing.seal(
                self._ceremony.trustees[receiver - 1].sealing_key,
                secret,
                self._secret_context(step, self._holder, receiver),
            )
            for receiver, secret in output.secrets.items()
        }
        statement = _message(self._context, self._holder, step, output.content, secrets)
        return CeremonyMessage(
            self._holder, step, output.content, secrets, self._signing_key.sign(*statement)
        )

    def _verified(self, step: int, messages: Sequence[CeremonyMessage]) -> dict[int, bytes]:
        expected = sorted(self._public_keys) if step else []
        if sorted(message.holder for message in messages) != expected:
            raise StateError(
                "CEREMONY_INCOMPLETE", f"step {step + 1} needs one message of each trustee"
            )
        for message in messages:
            statement = message.statement(self._context)
            if message.step != step or not signing.verify(
                self._public_keys[message.holder], message.signature, *statement
            ):
                raise ProtocolViolationError(
                    "MESSAGE_UNSIGNED",
                    f"the message of holder {message.holder} is not its own of step {step}",
                    culprit=str(message.holder),
                )
        return {message.holder: message.content for message in messages}

    def _secret_context(self, step: int, sender: int, receiver: int) -> bytes:
        return transcript.digest("ceremony-seal", self._context, step, sender, receiver)
