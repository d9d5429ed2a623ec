"""What a request to open a homomorphic sum binds, and what everybody signs about it.

Clients, the aggregator and each trustee build the same values from the same public fields. A
client signs its ciphertexts for one `EncryptedContext`; a trustee derives that context for itself
and opens only what verifies under it, so a signature for one round or sum serves for no other.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from finsecure_crypto import signing, transcript
from finsecure_crypto.errors import InvalidArgumentError, ProtocolViolationError
from finsecure_crypto.homomorphic.statements import Statement, encrypted_input

PROTOCOL_VERSION = 1
DIGEST_BYTES = 32
MAX_COHORT = 100_000

_ID = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]", re.ASCII)

PublicKeyOf = Callable[[str, bytes], bytes]
"""Verifies a signing certificate as that of the member with an id; returns its Ed25519 key."""


@dataclass(frozen=True)
class RoundSubject:
    """A round of training whose sum is opened.

    Attributes:
        task: id of the task.
        number: of the round; 0 is the statistics round.
        attempt: at that number, from 1.
        attempt_nonce: 32 random bytes, fresh for each attempt.
        model_digest: SHA-256 of the model that the round starts from, 32 bytes.
        task_digest: digest of the task's specification, 32 bytes.
    """

    task: str
    number: int
    attempt: int
    attempt_nonce: bytes
    model_digest: bytes
    task_digest: bytes

    kind = "round"

    def __post_init__(self) -> None:
        _check_id("task", self.task)
        if self.number < 0 or self.attempt < 1:
            raise InvalidArgumentError(
                "ROUND_NUMBER", "rounds are numbered from 0 and attempts from 1"
            )
        _check_digests(self, "attempt_nonce", "model_digest", "task_digest")

    @property
    def path(self) -> str:
        """Resource name below the federation. All attempts share it: a round is opened once."""
        return f"tasks/{self.task}/rounds/{self.number}"

    def parts(self) -> tuple[transcript.Part, ...]:
        """All fields in order, as they enter the context."""
        return (
            self.task,
            self.number,
            self.attempt,
            self.attempt_nonce,
            self.model_digest,
            self.task_digest,
        )


@dataclass(frozen=True)
class SumSubject:
    """An audited sum that is opened.

    Attributes:
        sum: id of the sum.
        nonce: 32 random bytes, drawn when the sum was created.
        spec_digest: digest of the sum's specification, 32 bytes.
    """

    sum: str
    nonce: bytes
    spec_digest: bytes

    kind = "sum"

    def __post_init__(self) -> None:
        _check_id("sum", self.sum)
        _check_digests(self, "nonce", "spec_digest")

    @property
    def path(self) -> str:
        """Resource name below the federation."""
        return f"sums/{self.sum}"

    def parts(self) -> tuple[transcript.Part, ...]:
        """All fields in order, as they enter the context."""
        return (self.sum, self.nonce, self.spec_digest)


Subject = RoundSubject | SumSubject


@dataclass(frozen=True)
class EncryptedContext:
    """All public parameters of one encrypted round or audited sum.

    Attributes:
        federation: id of the federation.
        subject: what is added up.
        key_name: resource name of the encryption key.
        key_digest: digest of the encryption key, 32 bytes.
        minimum_cohort: fewest contributions that may be opened, at least 2.
        maximum_cohort: most contributions; lanes are sized for so many.
        layout_digest: digest of the `VectorLayout` of the values, 32 bytes.

    Raises:
        InvalidArgumentError: `NAME_EMPTY`, `ROUND_NUMBER`, `DIGEST_LENGTH`, `COHORT_BOUNDS`; the
            caller's.
    """

    federation: str
    subject: Subject
    key_name: str
    key_digest: bytes
    minimum_cohort: int
    maximum_cohort: int
    layout_digest: bytes

    def __post_init__(self) -> None:
        _check_id("federation", self.federation)
        if not self.key_name.startswith(f"federations/{self.federation}/encryptionKeys/"):
            raise InvalidArgumentError(
                "KEY_FEDERATION", f"{self.key_name} is no key of the federation {self.federation}"
            )
        _check_digests(self, "key_digest", "layout_digest")
        if not 2 <= self.minimum_cohort <= self.maximum_cohort <= MAX_COHORT:
            raise InvalidArgumentError(
                "COHORT_BOUNDS",
                f"a cohort has at least 2 contributions and at most {MAX_COHORT}, and its minimum "
                "is not above its maximum",
            )

    @property
    def subject_name(self) -> str:
        """Resource name of what is opened, such as `federations/lending/tasks/t/rounds/3`."""
        return f"federations/{self.federation}/{self.subject.path}"

    def context(self) -> bytes:
        """Returns the digest, 32 bytes, with which every contribution's statement starts."""
        return transcript.digest(
            "encrypted-context",
            PROTOCOL_VERSION,
            self.federation,
            self.subject.kind,
            *self.subject.parts(),
            self.key_name,
            self.key_digest,
            self.minimum_cohort,
            self.maximum_cohort,
            self.layout_digest,
        )

    def input_statement(self, size_bytes: int, sha256: bytes) -> Statement:
        """What a client signs about its input, the ciphertexts with the proof if any."""
        return encrypted_input(self.context(), self.key_digest, size_bytes, sha256)

    def input_binding(self, client: str) -> bytes:
        """Returns the digest, 32 bytes, that binds the proof in a client's input to it and here."""
        return transcript.digest("encrypted-input-binding", self.context(), client)


@dataclass(frozen=True)
class Contribution:
    """One client's signed input, without the ciphertexts themselves.

    Attributes:
        client: id of the client.
        sha256: of the input's bytes, the ciphertexts and the proof if any; 32 bytes.
        signature: Ed25519 signature over `EncryptedContext.input_statement`, 64 bytes.
        certificate: signing certificate of the client, DER.
    """

    client: str
    sha256: bytes
    signature: bytes
    certificate: bytes = field(repr=False)

    def digest(self) -> bytes:
        """Digest of all fields, 32 bytes."""
        return transcript.digest(
            "contribution", self.client, self.sha256, self.signature, self.certificate
        )


def manifest_digest(contributions: Iterable[Contribution]) -> bytes:
    """Digest of a manifest, 32 bytes: the contributions in ascending order of the clients' ids."""
    return transcript.digest("manifest", b"".join(item.digest() for item in contributions))


@dataclass(frozen=True)
class DecryptionRequest:
    """A request to open one sum.

    Attributes:
        context: what the contributions were made for.
        contributions: how many there are.
        size_bytes: of each contribution; the total has the ciphertexts alone, and no proof.
        manifest_digest: digest of the manifest, 32 bytes.
        total_sha256: SHA-256 of the homomorphic sum of all contributions, 32 bytes.

    Raises:
        InvalidArgumentError: `DIGEST_LENGTH` or `REQUEST_SIZE`; the caller's.
    """

    context: EncryptedContext
    contributions: int
    size_bytes: int
    manifest_digest: bytes
    total_sha256: bytes

    def __post_init__(self) -> None:
        _check_digests(self, "manifest_digest", "total_sha256")
        if self.contributions < 1 or self.size_bytes < 1:
            raise InvalidArgumentError("REQUEST_SIZE", "a request sums at least one ciphertext")

    def digest(self) -> bytes:
        """Returns the digest, 32 bytes, that a trustee's proofs and signature bind."""
        return transcript.digest(
            "decryption-request",
            self.context.context(),
            self.contributions,
            self.size_bytes,
            self.manifest_digest,
            self.total_sha256,
        )


def check_manifest(request: DecryptionRequest, manifest: Sequence[Contribution]) -> None:
    """Checks that a manifest is the request's, with distinct clients and distinct ciphertexts.

    Raises:
        ProtocolViolationError: `MANIFEST_INVALID`, `CONTRIBUTOR_REPEATED`, or
            `CONTRIBUTION_REPEATED` where two clients sent the same bytes; whoever made the request.
    """
    if len(manifest) != request.contributions or (
        manifest_digest(manifest) != request.manifest_digest
    ):
        raise ProtocolViolationError(
            "MANIFEST_INVALID", "the manifest is not the one that the request names"
        )
    clients = [item.client for item in manifest]
    if len(set(clients)) != len(clients):
        raise ProtocolViolationError("CONTRIBUTOR_REPEATED", "a client is in the manifest twice")
    if clients != sorted(clients):
        raise ProtocolViolationError(
            "MANIFEST_INVALID", "the manifest is not in the order of the clients' ids"
        )
    if len({item.sha256 for item in manifest}) != len(manifest):
        raise ProtocolViolationError(
            "CONTRIBUTION_REPEATED", "two contributions of the manifest are the same ciphertexts"
        )


def verify_contribution(
    context: EncryptedContext,
    contribution: Contribution,
    size_bytes: int,
    public_key_of: PublicKeyOf,
) -> None:
    """Checks that an enrolled client signed this contribution for this context.

    Raises:
        ProtocolViolationError: `CONTRIBUTION_UNSIGNED`; the client's, or whoever changed it.
        AuthenticationError: what `public_key_of` raises.
    """
    public_key = public_key_of(contribution.client, contribution.certificate)
    statement = context.input_statement(size_bytes, contribution.sha256)
    if not signing.verify(public_key, contribution.signature, *statement):
        raise ProtocolViolationError(
            "CONTRIBUTION_UNSIGNED",
            f"the contribution of {contribution.client} is not signed by it for this round or sum",
            culprit=contribution.client,
        )


def partial_decryption(
    request_digest: bytes, holder: int, size_bytes: int, sha256: bytes
) -> Statement:
    """States that this is the trustee's partial decryption for the request, and its only one."""
    return ("partial-decryption", request_digest, holder, size_bytes, sha256)


def _check_id(name: str, value: str) -> None:
    if _ID.fullmatch(value) is None:
        raise InvalidArgumentError(
            "NAME_MALFORMED",
            f"the id of the {name} is not 2 to 40 lower-case letters, digits and hyphens",
        )


def _check_digests(holder: object, *names: str) -> None:
    for name in names:
        if len(getattr(holder, name)) != DIGEST_BYTES:
            raise InvalidArgumentError("DIGEST_LENGTH", f"{name} has {DIGEST_BYTES} bytes")
