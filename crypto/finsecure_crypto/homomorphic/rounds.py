"""An encrypted round: what clients sign, and the server's side of its one phase.

A client sends one message, its ciphertexts with a signed header, and needs no peers. The round's
digest stands in the signature and, at the trustees, in each partial decryption, so that neither an
input nor an opening serves in another round.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from finsecure_crypto import transcript
from finsecure_crypto.attempt import Attempt
from finsecure_crypto.errors import (
    FinSecureError,
    InvalidArgumentError,
    PermissionDeniedError,
    ProtocolViolationError,
    StateError,
)
from finsecure_crypto.homomorphic.decryption import (
    Contribution,
    EncryptedContext,
    PublicKeyOf,
    RoundSubject,
    verify_contribution,
)
from finsecure_crypto.homomorphic.scheme import missing_proof
from finsecure_crypto.signing import SigningKey


@dataclass(frozen=True, kw_only=True)
class EncryptedRoundParameters(Attempt):
    """All public parameters of one attempt at an encrypted round.

    Attributes:
        key_name: resource name of the encryption key.
        key_digest: of the encryption key, 32 bytes; it names the scheme too.

    Raises:
        InvalidArgumentError: what `Attempt` and `EncryptedContext` refuse.
    """

    key_name: str
    key_digest: bytes

    def __post_init__(self) -> None:
        super().__post_init__()
        self.binding()

    def binding(self) -> EncryptedContext:
        """Returns what contributions and trustees' answers are bound to."""
        return EncryptedContext(
            federation=self.federation,
            subject=RoundSubject(
                self.task,
                self.round_number,
                self.attempt,
                self.attempt_nonce,
                self.model_digest,
                self.task_digest,
            ),
            key_name=self.key_name,
            key_digest=self.key_digest,
            minimum_cohort=self.minimum_cohort,
            maximum_cohort=self.layout.cohort,
            layout_digest=self.layout.digest(),
        )


@dataclass(frozen=True)
class EncryptedInputHeader:
    """What a client says of its input.

    Attributes:
        size_bytes: of all ciphertexts together, and the proof behind them if any.
        sha256: of these bytes.
        signature: Ed25519 signature over `EncryptedContext.input_statement`; 64 bytes.
        certificate: signing certificate of the client, DER.
    """

    size_bytes: int
    sha256: bytes
    signature: bytes
    certificate: bytes = field(repr=False)

    def digest(self) -> bytes:
        """Returns a digest by which a repeated header is told from a different one.

        The certificate, which may be renewed between two sendings, does not enter.
        """
        return transcript.digest(
            "message/encrypted-input", self.size_bytes, self.sha256, self.signature
        )

    def contribution(self, client: str) -> Contribution:
        """Returns the client's entry in the manifest that trustees see."""
        return Contribution(client, self.sha256, self.signature, self.certificate)


def sign_input(
    binding: EncryptedContext,
    size_bytes: int,
    sha256: bytes,
    *,
    signing_key: SigningKey,
    certificate: bytes,
) -> EncryptedInputHeader:
    """Makes the header of a client's input.

    Args:
        binding: the round.
        size_bytes: of the input: all ciphertexts, and the proof behind them if any.
        sha256: of these bytes.
        signing_key: the client's.
        certificate: of that key, DER.
    """
    signature = signing_key.sign(*binding.input_statement(size_bytes, sha256))
    return EncryptedInputHeader(size_bytes, sha256, signature, certificate)


class CollectEncryptedInputs:
    """The server's side: collects what says that a client's ciphertexts are whole.

    `check` verifies a header before its ciphertexts are received; `accept` means that they are
    there, that their digest was compared, and that each of them is well-formed.

    Args:
        parameters: the round.
        input_bytes: that an input has by the shape of key and layout.
        proof_bytes: how many of them are the proof.
        invited: ids of the clients that may answer, at most the layout's cohort.
        verify_client: checks a client's certificate; when a round is restored, it has to judge by
            the time at which the message came.

    Attributes:
        expected: ids of the clients that may answer.

    Raises:
        InvalidArgumentError: `TOO_MANY_INVITED`; the caller's.
    """

    def __init__(
        self,
        parameters: EncryptedRoundParameters,
        input_bytes: int,
        proof_bytes: int,
        invited: frozenset[str],
        verify_client: PublicKeyOf,
    ) -> None:
        if len(invited) > parameters.layout.cohort:
            raise InvalidArgumentError(
                "TOO_MANY_INVITED",
                f"{len(invited)} clients are invited, the layout's lanes are sized for "
                f"{parameters.layout.cohort}",
            )
        self.expected = invited
        self._minimum = parameters.minimum_cohort
        self._binding = parameters.binding()
        self._input_bytes = input_bytes
        self._proof_bytes = proof_bytes
        self._verify_client = verify_client
        self._headers: dict[str, EncryptedInputHeader] = {}
        self._digests: set[bytes] = set()

    def check(self, client: str, header: EncryptedInputHeader) -> bool:
        """Verifies a header without accepting it.

        Returns:
            True for one to accept, False for one that was accepted before.

        Raises:
            ProtocolViolationError: `DUPLICATE_MESSAGE`, what `require_input_size` refuses,
                `CONTRIBUTION_REPEATED` for another client's ciphertexts, or
                `CONTRIBUTION_UNSIGNED`; `culprit` names the client.
            PermissionDeniedError: `CLIENT_NOT_EXPECTED`.
            FinSecureError: whatever `verify_client` raises, with the client as culprit.
        """
        known = self._headers.get(client)
        if known is not None:
            if known.digest() == header.digest():
                return False
            raise _violation("DUPLICATE_MESSAGE", client, "it sent a second, different input")
        if client not in self.expected:
            raise PermissionDeniedError(
                "CLIENT_NOT_EXPECTED",
                f"{client} was not invited to this round; wait for the next round",
                culprit=client,
            )
        require_input_size(client, header.size_bytes, self._input_bytes, self._proof_bytes)
        if header.sha256 in self._digests:
            raise _violation("CONTRIBUTION_REPEATED", client, "it sent another client's input")
        try:
            verify_contribution(
                self._binding, header.contribution(client), header.size_bytes, self._verify_client
            )
        except FinSecureError as error:
            error.culprit = client
            raise
        return True

    def accept(self, client: str, header: EncryptedInputHeader) -> bool:
        """Verifies and accepts a header; raises and returns as `check`."""
        if not self.check(client, header):
            return False
        self._headers[client] = header
        self._digests.add(header.sha256)
        return True

    def close(self) -> Sequence[Contribution]:
        """Returns whose inputs are summed: the manifest, in the order of the ids.

        Raises:
            StateError: `TOO_FEW_INPUTS`; wait for more, or abort. No sum of fewer is ever opened.
        """
        found = len(self._headers)
        if found < self._minimum:
            raise StateError(
                "TOO_FEW_INPUTS",
                f"{found} inputs are there where {self._minimum} are needed; wait for more, or "
                "abort the round",
            )
        return tuple(
            header.contribution(client) for client, header in sorted(self._headers.items())
        )


def require_input_size(client: str, size_bytes: int, input_bytes: int, proof_bytes: int) -> None:
    """Refuses an input that has not the bytes of its round or sum.

    Args:
        client: whose it is.
        size_bytes: that it has.
        input_bytes: that it should have.
        proof_bytes: how many of these are the proof.

    Raises:
        ProtocolViolationError: `PLAINTEXT_PROOF_MISSING` for one that lacks just the proof,
            `WRONG_INPUT_SIZE`; `culprit` names the client.
    """
    if size_bytes == input_bytes:
        return
    if size_bytes == input_bytes - proof_bytes:
        missing = missing_proof()
        raise ProtocolViolationError(missing.code, missing.message, culprit=client)
    raise _violation(
        "WRONG_INPUT_SIZE",
        client,
        f"its input has {size_bytes} bytes where {input_bytes} are expected",
    )


def _violation(code: str, client: str, reason: str) -> ProtocolViolationError:
    return ProtocolViolationError(
        code, f"{client} broke the protocol: {reason}; it counts as dropped out", culprit=client
    )
