"""The transcript encoding, slow and obvious, and its inverse, which shows it to be injective."""

import hashlib


def encode(label, *parts):
    out = prefixed(b"finsecure/v1/" + label.encode("ascii"))
    out += len(parts).to_bytes(8, "big")
    for part in parts:
        if isinstance(part, bytes):
            out += b"b" + prefixed(part)
        elif isinstance(part, str):
            out += b"s" + prefixed(part.encode("utf-8"))
        else:
            digits = []
            while part:
                part, digit = divmod(part, 256)
                digits.insert(0, digit)
            out += b"i" + prefixed(bytes(digits))
    return out


def prefixed(data):
    return len(data).to_bytes(8, "big") + data


def digest(label, *parts):
    return hashlib.sha256(encode(label, *parts)).digest()


def decode(data):
    """Reads a label and its parts back."""

    def take(count):
        nonlocal data
        taken, data = data[:count], data[count:]
        assert len(taken) == count
        return taken

    def take_prefixed():
        return take(int.from_bytes(take(8), "big"))

    label = take_prefixed()
    parts = []
    for _ in range(int.from_bytes(take(8), "big")):
        tag, value = take(1), take_prefixed()
        if tag == b"b":
            parts.append(value)
        elif tag == b"s":
            parts.append(value.decode("utf-8"))
        else:
            assert tag == b"i"
            parts.append(int.from_bytes(value, "big"))
    assert data == b""
    return label.decode("ascii").removeprefix("finsecure/v1/"), parts
