"""Messages of `finsecure.keyservice.v1` to the core's values and back."""

from collections.abc import Iterator

from finsecure.keyservice.v1 import encryption_keys_pb2, trustee_pb2
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.homomorphic.ceremony import Ceremony, CeremonyMessage, TrusteeCard
from finsecure_crypto.homomorphic.decryption import (
    Contribution,
    DecryptionRequest,
    EncryptedContext,
    RoundSubject,
    Subject,
    SumSubject,
)
from finsecure_crypto.homomorphic.key_record import Endorsement
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_rpc.encryption_key_terms import MODES

from finsecure_keyservice.trustee.adding import Piece
from finsecure_keyservice.trustee.dealt_shares import DealtShare

CHUNK_BYTES = 1 << 20


def decryption_request(message: trustee_pb2.DecryptionRequest) -> DecryptionRequest:
    """What is to be opened.

    Raises:
        InvalidArgumentError: what the core says of impossible fields; the caller's.
    """
    context = EncryptedContext(
        federation=message.federation,
        subject=_subject(message),
        key_name=message.encryption_key,
        key_digest=message.key_digest,
        minimum_cohort=message.minimum_cohort,
        maximum_cohort=message.maximum_cohort,
        layout_digest=message.layout_digest,
    )
    return DecryptionRequest(
        context=context,
        contributions=message.contributions,
        size_bytes=message.size_bytes,
        manifest_digest=message.manifest_digest,
        total_sha256=message.total_sha256,
    )


def _subject(message: trustee_pb2.DecryptionRequest) -> Subject:
    if message.HasField("round"):
        said = message.round
        return RoundSubject(
            said.task,
            said.number,
            said.attempt,
            said.attempt_nonce,
            said.model_digest,
            said.task_digest,
        )
    return SumSubject(message.sum.sum, message.sum.nonce, message.sum.spec_digest)


def contributions(page: trustee_pb2.ManifestPage) -> list[Contribution]:
    """The contributions of one page of a manifest."""
    return [
        Contribution(item.client, item.sha256, item.signature, item.certificate)
        for item in page.contributions
    ]


def piece(chunk: trustee_pb2.CiphertextChunk) -> Piece:
    """A piece of the ciphertexts."""
    return Piece(chunk.offset, chunk.content)


def partial_chunks(partial: bytes) -> Iterator[trustee_pb2.PartiallyDecryptResponse]:
    """A partial in pieces under the message limit."""
    for offset in range(0, len(partial), CHUNK_BYTES):
        yield trustee_pb2.PartiallyDecryptResponse(
            chunk=trustee_pb2.PartialChunk(
                offset=offset, content=partial[offset : offset + CHUNK_BYTES]
            )
        )


def wanted() -> trustee_pb2.PartiallyDecryptResponse:
    """That the ciphertexts are wanted."""
    return trustee_pb2.PartiallyDecryptResponse(
        contributions_wanted=trustee_pb2.ContributionsWanted()
    )


def endorsement(said: Endorsement) -> encryption_keys_pb2.KeyEndorsement:
    """A trustee's word for a key."""
    return encryption_keys_pb2.KeyEndorsement(
        trustee=said.trustee,
        holder=said.holder,
        signature=said.signature,
        certificate=said.certificate,
    )


def card_message(card: TrusteeCard) -> trustee_pb2.TrusteeCard:
    """A trustee's card."""
    return trustee_pb2.TrusteeCard(
        trustee=card.trustee,
        sealing_key=card.sealing_key,
        signature=card.signature,
        certificate=card.certificate,
    )


def ceremony(message: trustee_pb2.Ceremony) -> Ceremony:
    """What names a ceremony.

    Raises:
        InvalidArgumentError: what the core says of impossible fields; the caller's.
    """
    return Ceremony(
        message.encryption_key,
        mode(message.mode),
        message.nonce,
        tuple(
            TrusteeCard(item.trustee, item.sealing_key, item.signature, item.certificate)
            for item in message.trustees
        ),
    )


def ceremony_message(message: trustee_pb2.CeremonyMessage) -> CeremonyMessage:
    """What a trustee has said."""
    return CeremonyMessage(
        message.holder,
        message.step,
        message.content,
        {item.holder: item.ciphertext for item in message.secrets},
        message.signature,
    )


def ceremony_answer(message: CeremonyMessage) -> trustee_pb2.CeremonyMessage:
    """What this trustee says."""
    return trustee_pb2.CeremonyMessage(
        holder=message.holder,
        step=message.step,
        content=message.content,
        secrets=[
            trustee_pb2.SealedSecret(holder=holder, ciphertext=ciphertext)
            for holder, ciphertext in message.secrets.items()
        ],
        signature=message.signature,
    )


def dealt_share(message: trustee_pb2.ImportShareRequest) -> DealtShare:
    """What an operator brings from a dealer."""
    return DealtShare(
        message.encryption_key,
        mode(message.mode),
        message.public_key,
        message.sealed_share,
        message.holder,
    )


def mode(value: int) -> Mode:
    """The scheme; the proto has checked that it is one.

    Raises:
        InvalidArgumentError: MODE_UNKNOWN for one of a newer contract.
    """
    try:
        return MODES[encryption_keys_pb2.EncryptionMode.ValueType(value)]
    except KeyError as error:
        raise InvalidArgumentError("MODE_UNKNOWN", f"the mode {value} is not known here") from error
