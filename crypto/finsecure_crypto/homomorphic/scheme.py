"""What each homomorphic scheme offers: a key that everybody may know, and shares of its secret.

One client's input is `Shape.count` ciphertexts of `Shape.size_bytes` each, in order, and behind
them, in a mode that has one, a proof that the client knows what they hold. A *run* is a
concatenation of whole ciphertexts, of one or more. Every ciphertext has one canonical form of fixed
size, so an input is a byte string of known size, and its digest binds it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import transcript
from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.randomness import Randomness
from finsecure_crypto.secret import SecretBytes

CONTEXT_BYTES = 32

Sums = dict[str, NDArray[np.uint64] | NDArray[np.float64]]


@dataclass(frozen=True)
class Shape:
    """How many ciphertexts an input has.

    Attributes:
        count: ciphertexts.
        size_bytes: of each ciphertext.
        proof_bytes: of the proof behind them, 0 in a mode without; less than a ciphertext has.
    """

    count: int
    size_bytes: int
    proof_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """Bytes of all ciphertexts, and of a sum of inputs."""
        return self.count * self.size_bytes

    @property
    def input_bytes(self) -> int:
        """Bytes of a whole input."""
        return self.total_bytes + self.proof_bytes


class EncryptionKey(Protocol):
    """A public key with all its parameters; immutable, and checked when it was read."""

    @property
    def mode(self) -> Mode:
        """The scheme."""

    @property
    def holders(self) -> int:
        """How many trustees hold a share of the secret."""

    @property
    def threshold(self) -> int:
        """How many of them open a sum."""

    def serialise(self) -> bytes:
        """Returns the canonical form, which `registry.load_key` reads."""

    def digest(self) -> bytes:
        """Returns `key_digest` of the key, 32 bytes."""

    def shape(self, layout: VectorLayout) -> Shape:
        """Returns how many ciphertexts an input of this layout has.

        Raises:
            InvalidArgumentError: `LANE_OVERFLOW`, `COHORT_TOO_LARGE` or `ERROR_BOUND` for a layout
                whose sum over `layout.cohort` contributors would not be exact, or not within the
                error bound; the configuration's.
        """

    def error_bound(self, layout: VectorLayout) -> float:
        """Returns the error of a sum over `layout.cohort` contributors; 0.0 in an exact mode.

        It is a fraction of a section's bound, and comes on top of the rounding of the encoding.
        """

    def encrypt(
        self,
        layout: VectorLayout,
        values: Mapping[str, NDArray[Any]],
        rng: np.random.Generator,
        randomness: Randomness = os.urandom,
    ) -> Iterator[bytes]:
        """Encrypts one client's values and yields runs of the ciphertexts in order.

        Args:
            layout: how the values are encoded.
            values: as in `VectorLayout.encode`.
            rng: rounding noise, as in `VectorLayout.encode`.
            randomness: what blinds the ciphertexts.

        Raises:
            InvalidArgumentError: as `shape` and `VectorLayout.encode`; the caller's.
        """

    def encrypt_input(
        self,
        layout: VectorLayout,
        values: Mapping[str, NDArray[Any]],
        rng: np.random.Generator,
        binding: bytes,
        randomness: Randomness = os.urandom,
    ) -> Iterator[bytes]:
        """Makes one client's input: its ciphertexts, as `encrypt`, and then the proof if any.

        Args:
            layout: how the values are encoded.
            values: as in `VectorLayout.encode`.
            rng: rounding noise, as in `VectorLayout.encode`.
            binding: 32 bytes, `EncryptedContext.input_binding` of the client.
            randomness: what blinds ciphertexts and proof.

        Raises:
            InvalidArgumentError: as `encrypt`, `CONTEXT_LENGTH`; the caller's.
        """

    def ciphertext_part(self, size_bytes: int) -> int:
        """Returns how many bytes of an input are ciphertexts; the others are its proof.

        Args:
            size_bytes: of the whole input.

        Raises:
            IntegrityError: `PLAINTEXT_PROOF_MISSING` where no proof can be behind whole
                ciphertexts, `CIPHERTEXT_MALFORMED`; the sender's.
        """

    def check_input(self, runs: Iterable[bytes], proof: bytes, binding: bytes) -> None:
        """Checks each ciphertext of an input and, in a mode that has one, the proof.

        Args:
            runs: of all ciphertexts, in order.
            proof: what is behind them.
            binding: 32 bytes, as the sender should have given to `encrypt_input`.

        Raises:
            IntegrityError: `CIPHERTEXT_MALFORMED`, `PLAINTEXT_PROOF_MISSING`, or
                `PLAINTEXT_PROOF_REJECTED` for one of other ciphertexts, of another key, for
                another round or sum, or of another client; the sender's.
        """

    def check(self, run: bytes) -> int:
        """Checks each ciphertext of a run and returns how many there are.

        Raises:
            IntegrityError: `CIPHERTEXT_MALFORMED`; the sender's.
        """

    def add(self, first: bytes, second: bytes) -> bytes:
        """Adds two runs of the same length, both checked, ciphertext by ciphertext."""

    def verify_partial(self, total: bytes, holder: int, partial: bytes, context: bytes) -> None:
        """Checks a partial decryption as far as it can be judged alone.

        Args:
            total: the run of sums that was to be opened.
            holder: who sent it, 1 to `holders`.
            partial: what `KeyShare.partial` returned there.
            context: 32 bytes, as given to `KeyShare.partial`.

        Raises:
            ProtocolViolationError: `PARTIAL_INVALID`, with `str(holder)` as culprit.
        """

    def combine(
        self,
        layout: VectorLayout,
        contributors: int,
        total: bytes,
        partials: Mapping[int, bytes],
        context: bytes,
    ) -> Sums:
        """Opens a sum with the partial decryptions of at least `threshold` holders.

        Args:
            layout: of the inputs that were added.
            contributors: how many were added.
            total: the run of their sums.
            partials: by holder, 1 to `holders`.
            context: 32 bytes, as given to `KeyShare.partial`.

        Returns:
            The sums, as `VectorLayout.decode`.

        Raises:
            StateError: `TOO_FEW_PARTIALS`.
            ProtocolViolationError: `PARTIAL_INVALID`, with `str(holder)` as culprit, where the
                liar can be told.
            IntegrityError: `PARTIALS_DISAGREE` where it cannot: ask another holder;
                `SUM_OUT_OF_RANGE` as `VectorLayout.decode`.
        """


class KeyShare(Protocol):
    """What one trustee holds; its text form shows no secret."""

    @property
    def mode(self) -> Mode:
        """The scheme."""

    @property
    def holder(self) -> int:
        """Number of the trustee, 1 to `EncryptionKey.holders`."""

    def serialise(self) -> SecretBytes:
        """Returns the canonical form, which `registry.load_share` reads."""

    def partial(
        self,
        key: EncryptionKey,
        total: bytes,
        context: bytes,
        randomness: Randomness = os.urandom,
    ) -> bytes:
        """Makes this trustee's partial decryption of a run of sums.

        Whether the run may be opened at all is for the caller to decide before.

        Args:
            key: the public key that this is a share of.
            total: the run of sums.
            context: 32 bytes that bind the request, and go into the proofs.
            randomness: of proofs and of flooding noise.

        Raises:
            InvalidArgumentError: `KEY_MISMATCH` for a share of another key, `CONTEXT_LENGTH`; the
                caller's.
            IntegrityError: `CIPHERTEXT_MALFORMED`, as `EncryptionKey.check`.
        """


def key_digest(mode: Mode, serialised: bytes) -> bytes:
    """Returns the digest of a serialised public key, 32 bytes, by which others name it."""
    return transcript.digest("encryption-key", mode.value, serialised)


def missing_proof() -> IntegrityError:
    """Makes the error for an input without the proof that its mode demands."""
    return IntegrityError(
        "PLAINTEXT_PROOF_MISSING",
        "the input has no proof that its sender knows what it encrypted; send it with a client "
        "of this release",
    )
