"""Items of one size in one byte string, as messages carry them for many clients."""


def split(data: bytes, size: int) -> list[bytes]:
    """Cuts a byte string, whose length is a multiple of `size`, into its items."""
    return [data[start : start + size] for start in range(0, len(data), size)]
