"""Strategies for messages of the wire contract: wild ones, and good ones with something bent."""

from collections.abc import Mapping, Sequence

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_WHOLE_NUMBERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_ENUM: (-1, 20),
}
_TRICKS = (
    "",
    "../../etc/passwd",
    "a/../b",
    "\x00",
    "%s%n",
    "'; DROP TABLE tasks; --",
    "federations/lending/tasks/../x",
    "federations/lending/tasks/credit\n",
    "\u202e\u0661",
    "x" * 10_000,
)


class Hostile:
    """Makes strategies; `words` are strings that mean something to the server."""

    def __init__(self, words: Sequence[str]) -> None:
        self._text = st.sampled_from([*words, *_TRICKS]) | st.text(
            st.characters(exclude_categories=["Cs"]), max_size=30
        )
        self._bytes = st.binary(max_size=80) | st.sampled_from(
            [
                *(bytes(32), bytes(64), b"\xff" * 32, bytes(8193)),
                *(bytes(36), b"\xff" * 36, bytes(5 * 36), bytes(5 * 36 + 1)),
                *(bytes(4 * 108), b"\xff" * (4 * 108), bytes(4 * 108 - 1), bytes(5 * 64)),
            ]
        )

    def value(self, field: FieldDescriptor, depth: int) -> st.SearchStrategy[object]:
        """Any value of a field, which the contract allows or not."""
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            return self.message(field.message_type, depth - 1)
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._bytes
        if field.type == FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        if field.type in {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}:
            return st.floats() | st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-300, 1e6])
        least, most = _WHOLE_NUMBERS[field.type]
        return st.integers(least, most) | st.integers(max(least, 0), 5) | st.just(most)

    def message(self, descriptor: Descriptor, depth: int = 5) -> st.SearchStrategy[Message]:
        """A message with any of its fields set to anything."""

        @st.composite
        def build(draw: st.DrawFn) -> Message:
            made = GetMessageClass(descriptor)()
            for field in descriptor.fields:
                if depth > 0 and draw(st.integers(0, 9)) < 8:
                    self._set(draw, made, field, depth)
            return made

        return build()

    def bent(self, good: Message) -> st.SearchStrategy[Message]:
        """A copy of a good message with one to three fields, however deep, changed or left out."""

        @st.composite
        def build(draw: st.DrawFn) -> Message:
            made = type(good)()
            made.CopyFrom(good)
            for _ in range(draw(st.integers(0, 3))):
                place = made
                while True:
                    field = draw(st.sampled_from(list(place.DESCRIPTOR.fields)))
                    inner = _inner(draw, place, field)
                    if inner is None or draw(st.integers(0, 5)) == 0:
                        break
                    place = inner
                place.ClearField(field.name)
                if draw(st.integers(0, 4)):
                    self._set(draw, place, field, 3)
            return made

        return build()

    def any_of(
        self, descriptor: Descriptor, good: Mapping[str, Sequence[Message]]
    ) -> st.SearchStrategy[Message]:
        """A wild message of a type, or one of its good ones bent."""
        templates = good.get(descriptor.name, ())
        bent = [self.bent(one) for one in templates for _ in range(3)]
        return st.one_of(self.message(descriptor), *bent)

    def _set(self, draw: st.DrawFn, made: Message, field: FieldDescriptor, depth: int) -> None:
        if field.is_repeated:
            values = draw(st.lists(self.value(field, depth), max_size=3))
            getattr(made, field.name).extend(values)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(made, field.name).CopyFrom(draw(self.value(field, depth)))
        else:
            setattr(made, field.name, draw(self.value(field, depth)))


def _inner(draw: st.DrawFn, place: Message, field: FieldDescriptor) -> Message | None:
    """A message inside a field, if there is one."""
    if field.type != FieldDescriptor.TYPE_MESSAGE or not field.message_type.fields:
        return None
    if not field.is_repeated:
        inner: Message = getattr(place, field.name)
        return inner
    items = getattr(place, field.name)
    return draw(st.sampled_from(list(items))) if items else None
