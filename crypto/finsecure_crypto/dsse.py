"""Dead Simple Signing Envelope (DSSE 1.0.2): a payload, its type, and who signed both.

Source: secure-systems-lab/dsse, protocol.md and envelope.md. What is signed is the
pre-authentication encoding (PAE) of type and payload, never the JSON around them.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

from finsecure_crypto.errors import IntegrityError

MAXIMUM_BYTES = 65536
_MOST_SIGNATURES = 8
_MOST_KEYID = 512


@dataclass(frozen=True)
class EnvelopeSignature:
    """One signature.

    Attributes:
        keyid: name of the key; a hint, never a proof.
        sig: the signature over `pae`.
    """

    keyid: str
    sig: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload with its signatures, none of them verified yet."""

    payload_type: str
    payload: bytes
    signatures: tuple[EnvelopeSignature, ...]

    def encode(self) -> bytes:
        """Returns the JSON form."""
        return json.dumps(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.payload_type,
                "signatures": [
                    {"keyid": each.keyid, "sig": base64.b64encode(each.sig).decode()}
                    for each in self.signatures
                ],
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode()

    @classmethod
    def parse(cls, data: bytes) -> "Envelope":
        """Reads the JSON form; fields that DSSE does not have are refused.

        Raises:
            IntegrityError: ENVELOPE_MALFORMED; of whoever made it.
        """
        try:
            if len(data) > MAXIMUM_BYTES:
                raise ValueError
            fields: Any = json.loads(data)
            if not isinstance(fields, dict) or fields.keys() != {
                "payload",
                "payloadType",
                "signatures",
            }:
                raise ValueError
            listed = fields["signatures"]
            if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST_SIGNATURES:
                raise ValueError
            return cls(
                _text(fields["payloadType"]),
                _bytes(fields["payload"]),
                tuple(_signature(each) for each in listed),
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise IntegrityError(
                "ENVELOPE_MALFORMED", "this is no signed envelope (DSSE); get it again"
            ) from error


def pae(payload_type: str, payload: bytes) -> bytes:
    """Returns what a signature is over: `DSSEv1`, and both with their lengths."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _signature(fields: Any) -> EnvelopeSignature:
    if not isinstance(fields, dict) or fields.keys() != {"keyid", "sig"}:
        raise ValueError
    return EnvelopeSignature(_text(fields["keyid"]), _bytes(fields["sig"]))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isascii() or len(value) > _MOST_KEYID:
        raise ValueError
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError
    return base64.b64decode(value, validate=True)
