"""The process that encrypts for the client: `python -m finsecure_client.encryption_worker`.

It talks to the process that started it over its standard input, a Unix socket, in frames of a
length and bytes: first the public key, then words, each answered with what `written` makes of
their ciphertexts. It holds no secret but the words and the randomness of this moment, and ends when
the socket does.
"""

import socket
import struct
import sys
from collections.abc import Iterable
from io import BufferedRWPair

import numpy as np
from finsecure_crypto.homomorphic.paillier import read_key
from finsecure_crypto.homomorphic.paillier.blinding import MAX_WINDOW, Blinder
from finsecure_crypto.homomorphic.paillier.integers import from_bytes, to_bytes
from finsecure_crypto.homomorphic.paillier.key import Encrypted, PaillierKey

_LENGTH = struct.Struct("<I")


def send(stream: BufferedRWPair, content: bytes) -> None:
    """Send a frame."""
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: BufferedRWPair) -> bytes:
    """Receive a frame.

    Raises:
        EOFError: the other side has gone.
    """
    (length,) = _LENGTH.unpack(_read(stream, _LENGTH.size))
    return _read(stream, length)


def _read(stream: BufferedRWPair, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("the other side has closed the connection")
    return content


def written(key: PaillierKey, encrypted: Iterable[Encrypted]) -> bytes:
    """Write exponents, each in the same number of bytes, and then the ciphertexts."""
    parts = list(encrypted)
    exponents = [to_bytes(a, _exponent_bytes(key)) for part in parts for a in part.exponents]
    return b"".join(exponents + [part.run for part in parts])


def read(key: PaillierKey, content: bytes) -> Encrypted:
    """Read what `written` has made.

    Raises:
        ValueError: it has another size.
    """
    size = _exponent_bytes(key)
    count, rest = divmod(len(content), size + key.modulus.ciphertext_bytes)
    if rest:
        raise ValueError(f"{len(content)} bytes are no answer")
    exponents = [from_bytes(content[i : i + size]) for i in range(0, count * size, size)]
    return Encrypted(content[count * size :], exponents)


def _exponent_bytes(key: PaillierKey) -> int:
    # They are rounded up to whole digits, of at most so many bits.
    return -(-(key.exponent_bits + MAX_WINDOW) // 8)


def serve(stream: BufferedRWPair, window: int) -> None:
    """Encrypt what comes until the other side closes the connection."""
    try:
        key = read_key(receive(stream))
        blinder = Blinder(key.modulus, key.exponent_bits, window)
        while True:
            words = np.frombuffer(receive(stream), "<u8").astype(np.uint64)
            send(stream, written(key, key.encrypt_words(words, blinder)))
    except (EOFError, ConnectionError):
        return


def main() -> None:
    """Serve on the standard input; the argument is the window of the table."""
    with socket.socket(fileno=0) as connection, connection.makefile("rwb") as stream:
        serve(stream, int(sys.argv[1]))


if __name__ == "__main__":
    main()
