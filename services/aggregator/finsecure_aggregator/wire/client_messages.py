"""What clients say in a round, from the wire or from the log."""

from finsecure.aggregation.v1 import participation_pb2
from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.secagg import messages
from finsecure_rpc.key_advertisements import advertisement_of
from google.protobuf.message import Message

from finsecure_aggregator.instructions import ClientMessage
from finsecure_aggregator.records import RoundState


def input_header(payload: bytes) -> messages.MaskedInputHeader | EncryptedInputHeader:
    """Read the serialised header of an upload; one with a certificate is an encrypted input's."""
    header = participation_pb2.InputHeader.FromString(payload)
    if header.certificate:
        return EncryptedInputHeader(
            header.size_bytes, header.sha256, header.signature, header.certificate
        )
    return messages.MaskedInputHeader(header.size_bytes, header.sha256, header.signature)


def client_message(phase: RoundState, payload: bytes) -> ClientMessage:
    """Read a client's serialised request, from the wire or from the log.

    Args:
        phase: that the request belongs to.
        payload: AdvertiseKeysRequest, ShareKeysRequest, InputHeader,
            ConfirmSurvivorsRequest or RevealSharesRequest.
    """
    match phase:
        case RoundState.ADVERTISE_KEYS:
            advertising = participation_pb2.AdvertiseKeysRequest.FromString(payload)
            return advertisement_of(advertising.advertisement)
        case RoundState.SHARE_KEYS:
            sharing = participation_pb2.ShareKeysRequest.FromString(payload)
            return messages.KeyShares(
                sharing.ciphertexts, sharing.self_mask_commitment, sharing.signature
            )
        case RoundState.SUBMIT_INPUT:
            return input_header(payload)
        case RoundState.CONFIRM_SURVIVORS:
            confirmation = participation_pb2.ConfirmSurvivorsRequest.FromString(payload)
            return messages.SurvivorConfirmation(confirmation.signature)
        case RoundState.REVEAL_SHARES:
            revealed = participation_pb2.RevealSharesRequest.FromString(payload)
            return messages.RevealedShares(
                revealed.self_mask_shares, revealed.mask_key_shares, revealed.unreadable
            )
        case _:
            raise ValueError(f"clients say nothing in {phase}")


def serialised(request: Message) -> bytes:
    """Serialise a request for the log."""
    return request.SerializeToString(deterministic=True)
