"""What a trustee demands of a request before it helps to open a sum; each refusal has its reason.

Nothing here computes on ciphertexts; `opening` does that in between.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from finsecure_crypto.certificates import (
    RevocationList,
    Role,
    SpiffeId,
    TrustAnchors,
    verify_member,
)
from finsecure_crypto.errors import (
    AuthenticationError,
    IntegrityError,
    NotFoundError,
    PolicyError,
    ProtocolViolationError,
    ResourceExhaustedError,
    StateError,
)
from finsecure_crypto.homomorphic.decryption import (
    Contribution,
    DecryptionRequest,
    RoundSubject,
    check_manifest,
    verify_contribution,
)
from finsecure_crypto.homomorphic.key_record import KeyState
from sqlalchemy import Connection

from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.records import HeldKey

_CONTRIBUTOR = {
    "CERTIFICATE_REVOKED": "CONTRIBUTOR_REVOKED",
    "CERTIFICATE_EXPIRED": "CONTRIBUTOR_EXPIRED",
}


@dataclass(frozen=True)
class Rules:
    """What this trustee's owner has decided.

    Attributes:
        federation: id of the one federation that is served.
        minimum_round_cohort: fewest contributions of a round that are opened.
        minimum_sum_cohort: fewest contributions of an audited sum that are opened.
        decryptions_per_key: most sums that are opened with one key.
        maximum_bytes: largest contribution.
        contributors: patterns of the ids of those who count as contributors.
    """

    federation: str
    minimum_round_cohort: int
    minimum_sum_cohort: int
    decryptions_per_key: int
    maximum_bytes: int
    contributors: tuple[str, ...] = ("*",)

    def check_federation(self, request: DecryptionRequest) -> None:
        """Refuse what is another federation's.

        Raises:
            PolicyError: FEDERATION_MISMATCH.
        """
        if request.context.federation != self.federation:
            raise PolicyError(
                "FEDERATION_MISMATCH",
                f"this is a trustee of {self.federation}, not of {request.context.federation}",
            )

    def check_size(self, request: DecryptionRequest) -> None:
        """Refuse too few contributions, too many, or too large ones.

        Raises:
            PolicyError: COHORT_TOO_SMALL or COHORT_TOO_LARGE.
            ResourceExhaustedError: INPUT_TOO_LARGE.
        """
        context, count = request.context, request.contributions
        own = (
            self.minimum_round_cohort
            if isinstance(context.subject, RoundSubject)
            else self.minimum_sum_cohort
        )
        least = max(own, context.minimum_cohort)
        if count < least:
            raise PolicyError(
                "COHORT_TOO_SMALL",
                f"the sum of {count} contributions is not opened; {least} are needed here",
            )
        if count > context.maximum_cohort:
            raise PolicyError(
                "COHORT_TOO_LARGE",
                f"{count} contributions are more than the {context.maximum_cohort} that the values "
                "are laid out for",
            )
        if request.size_bytes > self.maximum_bytes:
            raise ResourceExhaustedError(
                "INPUT_TOO_LARGE",
                f"a contribution of {request.size_bytes} bytes is over this trustee's limit of "
                f"{self.maximum_bytes}; ask its owner to raise maximum_input_mib",
            )

    def check_contributors(self, manifest: Sequence[Contribution]) -> None:
        """Refuse contributors whom the owner has not named, whoever has enrolled them.

        Raises:
            ProtocolViolationError: CONTRIBUTOR_UNLISTED; the client is the culprit.
        """
        for contribution in manifest:
            client = contribution.client
            if not any(fnmatchcase(client, pattern) for pattern in self.contributors):
                raise ProtocolViolationError(
                    "CONTRIBUTOR_UNLISTED",
                    f"{client} matches none of contributors in this trustee's configuration",
                    culprit=client,
                )

    def check_unopened(
        self, connection: Connection, request: DecryptionRequest, manifest: Sequence[Contribution]
    ) -> None:
        """Refuse a second opening; runs again in the transaction that decides.

        Raises:
            StateError: SUBJECT_OPENED.
            ProtocolViolationError: CONTRIBUTION_REUSED.
            ResourceExhaustedError: BUDGET_SPENT.
        """
        context = request.context
        if store.opened_by(connection, context.subject_name) is not None:
            raise StateError(
                "SUBJECT_OPENED",
                f"{context.subject_name} was opened by another request before; it is opened once",
            )
        client = store.used(connection, [item.sha256 for item in manifest])
        if client is not None:
            raise ProtocolViolationError(
                "CONTRIBUTION_REUSED",
                f"the contribution of {client} went into a total that was opened before",
                culprit=client,
            )
        if store.openings_of(connection, context.key_name) >= self.decryptions_per_key:
            raise ResourceExhaustedError(
                "BUDGET_SPENT",
                f"{context.key_name} has opened {self.decryptions_per_key} sums, its budget here; "
                "make a new key",
            )


def check_key(request: DecryptionRequest, held: HeldKey | None, state: KeyState) -> HeldKey:
    """Refuse a key that is not held here, is another one, or is out of use.

    Raises:
        NotFoundError: KEY_UNKNOWN.
        IntegrityError: KEY_DIGEST_MISMATCH.
        StateError: KEY_STATE.
    """
    name = request.context.key_name
    if held is None:
        raise NotFoundError("KEY_UNKNOWN", f"this trustee holds no share of {name}")
    if held.description.digest != request.context.key_digest:
        raise IntegrityError(
            "KEY_DIGEST_MISMATCH", f"the key that is meant is not {name} as it is held here"
        )
    if not state.decrypts:
        raise StateError(
            "KEY_STATE", f"{name} is {state.value}: nothing that it encrypted is opened any more"
        )
    return held


@dataclass(frozen=True)
class Members:
    """Whom this trustee takes for a client of its federation.

    Attributes:
        anchors: the authorities that are believed.
        revocations: the newest revocation list.
        trust_domain: of the federation.
        now: when it looks.
    """

    anchors: TrustAnchors
    revocations: RevocationList
    trust_domain: str
    now: datetime

    def public_key_of(self, client: str, certificate: bytes) -> bytes:
        """Verify a signing certificate as a client's.

        Raises:
            ProtocolViolationError: CONTRIBUTOR_REVOKED, CONTRIBUTOR_EXPIRED or
                CONTRIBUTOR_UNTRUSTED; the client is the culprit.
        """
        member = SpiffeId(self.trust_domain, Role.CLIENT, client)
        try:
            return verify_member(certificate, self.anchors, self.revocations, self.now, member)
        except AuthenticationError as error:
            code = _CONTRIBUTOR.get(error.code, "CONTRIBUTOR_UNTRUSTED")
            raise ProtocolViolationError(code, error.message, culprit=client) from error


def check_contributions(
    request: DecryptionRequest,
    manifest: Sequence[Contribution],
    public_key_of: Callable[[str, bytes], bytes],
) -> None:
    """Refuse a manifest that is not wholly of distinct, enrolled signers of this very context.

    Raises:
        ProtocolViolationError: what `check_manifest`, `verify_contribution` and `public_key_of`
            refuse.
    """
    check_manifest(request, manifest)
    for contribution in manifest:
        verify_contribution(request.context, contribution, request.size_bytes, public_key_of)


def check_certificates(
    manifest: Sequence[Contribution], public_key_of: Callable[[str, bytes], bytes]
) -> None:
    """Refuse a manifest again whose signatures were verified, if a signer was put out meanwhile.

    Raises:
        ProtocolViolationError: what `public_key_of` refuses.
    """
    for contribution in manifest:
        public_key_of(contribution.client, contribution.certificate)
