"""The constraints that stand in the protos, checked on every message."""

import protovalidate
from google.protobuf.message import Message

from finsecure_rpc.status import FieldViolation, InvalidMessageError


def check_message(message: Message) -> None:
    """Check a message against its proto.

    Raises:
        InvalidMessageError: with every violation; the sender's fault.
    """
    violations = protovalidate.collect_violations(message)
    if violations:
        raise InvalidMessageError(
            [
                FieldViolation(_path(item.proto.field), item.proto.message or item.proto.rule_id)
                for item in violations
            ]
        )


def _path(field: protovalidate.FieldPathPb | None) -> str:
    """Write a field path as people do: `shares[3].ciphertext`."""
    parts = []
    for element in field.elements if field is not None else ():
        subscript = "" if element.subscript is None else f"[{element.subscript.value}]"
        parts.append(f"{element.field_name}{subscript}")
    return ".".join(parts)
