"""What each field of an outgoing message is, and a walk over all of them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from finsecure_crypto.errors import InternalError
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

# What a field is, by message and field. A message that is not named here cannot be sent, so a new
# field has to be described before it can leave.
KINDS: dict[str, dict[str, str]] = {
    "finsecure.aggregation.v1.WatchRequest": {"tasks": "task name"},
    "finsecure.aggregation.v1.AdvertiseKeysRequest": {"round": "round name"},
    "finsecure.aggregation.v1.KeyAdvertisement": {
        "client": "own id",
        "channel_key": "public key",
        "mask_key": "public key",
        "signature": "signature",
        "certificate": "own certificate",
    },
    "finsecure.aggregation.v1.ShareKeysRequest": {
        "round": "round name",
        "ciphertexts": "encrypted key shares",
        "self_mask_commitment": "commitment",
        "signature": "signature",
    },
    "finsecure.aggregation.v1.InputHeader": {
        "round": "round name",
        "size_bytes": "size of the protected input",
        "sha256": "digest of the protected input",
        "signature": "signature",
        "certificate": "own certificate",
    },
    "finsecure.aggregation.v1.Chunk": {
        "offset": "offset in the protected input",
        "content": "masked or encrypted model update",
        "crc32": "checksum of the protected input",
    },
    "finsecure.aggregation.v1.GetUploadStatusRequest": {"round": "round name"},
    "finsecure.aggregation.v1.ConfirmSurvivorsRequest": {
        "round": "round name",
        "signature": "signature",
    },
    "finsecure.aggregation.v1.RevealSharesRequest": {
        "round": "round name",
        "self_mask_shares": "shares of other clients' secrets",
        "mask_key_shares": "shares of other clients' secrets",
        "unreadable": "whose shares were unreadable",
    },
    "finsecure.aggregation.v1.DeclineRoundRequest": {
        "round": "round name",
        "reason": "reason code",
    },
    "finsecure.aggregation.v1.GetTaskRequest": {"name": "task name"},
    "finsecure.aggregation.v1.ListTasksRequest": {
        "parent": "federation name",
        "page_size": "page size",
        "page_token": "page token",
    },
    "finsecure.aggregation.v1.GetModelRequest": {"name": "model name"},
    "finsecure.aggregation.v1.DownloadModelRequest": {
        "name": "model name",
        "offset": "offset in the model",
    },
    "finsecure.aggregation.v1.ContributeRequest": {
        "sum": "sum name",
        "ciphertexts": "encrypted contribution to a sum",
        "signature": "signature",
        "certificate": "own certificate",
    },
    "finsecure.aggregation.v1.CreateSumRequest": {
        "name": "sum name",
        "request_id": "random request id",
    },
    "finsecure.aggregation.v1.SumSpec": {
        "description": "terms of a new sum",
        "labels": "terms of a new sum",
        "maximum": "terms of a new sum",
        "minimum_contributors": "terms of a new sum",
        "maximum_contributors": "terms of a new sum",
        "encryption_key": "key name",
    },
    "google.protobuf.Duration": {
        "seconds": "terms of a new sum",
        "nanos": "terms of a new sum",
    },
    "finsecure.aggregation.v1.GetSumRequest": {"name": "sum name"},
    "finsecure.aggregation.v1.WatchSumRequest": {"name": "sum name"},
    "finsecure.aggregation.v1.ListSumsRequest": {
        "parent": "federation name",
        "page_size": "page size",
        "page_token": "page token",
    },
    "finsecure.aggregation.v1.OpenSumRequest": {
        "name": "sum name",
        "request_id": "random request id",
    },
    "finsecure.aggregation.v1.CancelSumRequest": {
        "name": "sum name",
        "request_id": "random request id",
    },
    "finsecure.keyservice.v1.EnrolRequest": {
        "api_key": "API key",
        "tls_csr": "certificate request",
        "signing_csr": "certificate request",
    },
    "finsecure.keyservice.v1.JoinRequest": {
        "join_token": "join token",
        "member_id": "own id",
        "tls_csr": "certificate request",
        "signing_csr": "certificate request",
    },
    "finsecure.keyservice.v1.RenewCertificatesRequest": {
        "tls_csr": "certificate request",
        "signing_csr": "certificate request",
    },
    "finsecure.keyservice.v1.DownloadEncryptionKeyRequest": {"name": "key name"},
    "finsecure.keyservice.v1.GetCheckpointRequest": {},
    "finsecure.keyservice.v1.GetConsistencyProofRequest": {
        "first_size": "size of the audit log",
        "second_size": "size of the audit log",
    },
    "finsecure.keyservice.v1.GetKeyHandoverRequest": {"verifier_key": "key of the audit log"},
    "finsecure.keyservice.v1.ProvePublicationRequest": {
        "subject": "name of what is published",
        "sha256": "digest of what is published",
    },
    "finsecure.keyservice.v1.GetFederationRequest": {"name": "federation name"},
    "finsecure.keyservice.v1.GetTrustBundleRequest": {},
    "finsecure.keyservice.v1.GetRevocationListRequest": {},
    "finsecure.keyservice.v1.WatchRevocationListRequest": {},
    "finsecure.keyservice.v1.DownloadPublicKeyRequest": {"name": "name of a public key"},
}


@dataclass(frozen=True)
class Field:
    """One field that leaves.

    Attributes:
        path: where it is in the message, such as `shares[3].ciphertext`.
        kind: what it is, in words.
        length: bytes of the value: of the text in UTF-8, or of the number as decimal digits.
        sha256: digest of the same bytes, hexadecimal.
    """

    path: str
    kind: str
    length: int
    sha256: str


def fields(message: Message, prefix: str = "") -> Iterator[Field]:
    """Walk every set field of a message, those of nested messages included.

    Raises:
        InternalError: EGRESS_UNDESCRIBED, where a field has no description.
    """
    name = message.DESCRIPTOR.full_name
    for descriptor, value in message.ListFields():
        repeated = descriptor.is_repeated
        for index, item in enumerate(value if repeated else [value]):
            path = f"{prefix}{descriptor.name}{f'[{index}]' if repeated else ''}"
            if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
                yield from fields(item, f"{path}.")
                continue
            kind = KINDS.get(name, {}).get(descriptor.name)
            if kind is None:
                raise InternalError(
                    "EGRESS_UNDESCRIBED",
                    f"{name}.{descriptor.name} is not described in the egress manifest and "
                    "therefore not sent; report this as a defect",
                )
            raw = _bytes(item)
            yield Field(path, kind, len(raw), hashlib.sha256(raw).hexdigest())


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def round_of(message: Message) -> str:
    """Return the name of the round or audited sum that a message belongs to, or nothing."""
    for descriptor, value in message.ListFields():
        if descriptor.name in ("round", "sum") and isinstance(value, str):
            return value
        if descriptor.type == FieldDescriptor.TYPE_MESSAGE and not descriptor.is_repeated:
            found = round_of(value)
            if found:
                return found
    return ""
