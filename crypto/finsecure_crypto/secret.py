"""A type for key material, so that it cannot slip into a log line, an exception or a set.

Python can neither lock memory nor erase it for certain; the type guards against disclosure by
accident, not against whoever reads the memory of the process.
"""

import hmac
from typing import NoReturn


class SecretBytes:
    """Holds secret bytes that leave only through `expose()`.

    Its text form is redacted, its comparison takes the same time wherever the first difference
    is, and it is neither hashable nor picklable nor copyable by accident into either.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._value = bytes(value)

    def expose(self) -> bytes:
        """Returns the bytes themselves; every call is a place for a reviewer to look at."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretBytes):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash would be a fast, unkeyed digest of a key

    def __repr__(self) -> str:
        return f"SecretBytes(<{len(self._value)} bytes>)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not serialised; call expose() where it has to be written")

    def __copy__(self) -> "SecretBytes":
        return self

    def __deepcopy__(self, memo: object) -> "SecretBytes":
        return self
