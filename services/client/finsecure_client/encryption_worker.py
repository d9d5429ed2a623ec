"""The process that encrypts for the client: `python -m finsecure_client.encryption_worker`.

It talks to the process that started it over its standard input, a Unix socket, in frames of a
length and bytes: first the public key, then words, each answered with their ciphertexts. It holds
no secret but the words and the randomness of this moment, and ends when the socket does.
"""

import socket
import struct
import sys
from io import BufferedRWPair

import numpy as np
from finsecure_crypto.homomorphic.paillier import read_key
from finsecure_crypto.homomorphic.paillier.blinding import Blinder

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


def serve(stream: BufferedRWPair, window: int) -> None:
    """Encrypt what comes until the other side closes the connection."""
    try:
        key = read_key(receive(stream))
        blinder = Blinder(key.modulus, key.exponent_bits, window)
        while True:
            words = np.frombuffer(receive(stream), "<u8").astype(np.uint64)
            send(stream, b"".join(key.encrypt_words(words, blinder)))
    except (EOFError, ConnectionError):
        return


def main() -> None:
    """Serve on the standard input; the argument is the window of the table."""
    with socket.socket(fileno=0) as connection, connection.makefile("rwb") as stream:
        serve(stream, int(sys.argv[1]))


if __name__ == "__main__":
    main()
