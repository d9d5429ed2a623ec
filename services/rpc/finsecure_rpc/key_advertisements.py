"""Advertised keys of clients on the wire: as a client sends them and as a roster shows them."""

from finsecure.aggregation.v1 import participation_pb2
from finsecure_crypto.secagg.messages import KeyAdvertisement


def advertisement_to_wire(item: KeyAdvertisement) -> participation_pb2.KeyAdvertisement:
    """Make the wire's form of a client's keys."""
    return participation_pb2.KeyAdvertisement(
        client=item.client,
        channel_key=item.channel_key,
        mask_key=item.mask_key,
        signature=item.signature,
        certificate=item.certificate,
    )


def advertisement_of(message: participation_pb2.KeyAdvertisement) -> KeyAdvertisement:
    """Read a client's keys; what they are worth is the protocol core's to say."""
    return KeyAdvertisement(
        client=message.client,
        channel_key=message.channel_key,
        mask_key=message.mask_key,
        signature=message.signature,
        certificate=message.certificate,
    )
