"""The process that holds one slice: `python -m finsecure_aggregator.slice_worker`.

It talks to the process that started it over its standard input, a Unix socket, in frames of an
operation, a length and bytes; nothing is pickled. It reads the inputs' files itself, so what goes
over the socket are their names, the masks, and at the end the sum. It ends when the socket does.
"""

import os
import socket
import struct
import sys
from pathlib import Path

import numpy as np
from finsecure_crypto.errors import IntegrityError

from finsecure_aggregator.slices import PartialSum, Span, Words, unpacked

ADD, MASK, TAKE = b"A", b"M", b"T"
DONE, TRUNCATED = b"+", b"-"
_HEADER = struct.Struct("<cI")


def send(connection: socket.socket, operation: bytes, content: bytes = b"") -> None:
    """Send a frame."""
    connection.sendall(_HEADER.pack(operation, len(content)) + content)


def receive_into(connection: socket.socket, buffer: memoryview) -> None:
    """Fill a buffer of bytes.

    Raises:
        EOFError: the other side has gone.
    """
    while buffer:
        count = connection.recv_into(buffer)
        if not count:
            raise EOFError("the other side has closed the connection")
        buffer = buffer[count:]


def _receive(connection: socket.socket, size: int) -> bytes:
    content = bytearray(size)
    receive_into(connection, memoryview(content))
    return bytes(content)


def as_bytes(words: Words) -> memoryview:
    """Give the bytes of an array, in place."""
    return words.view(np.uint8).data


def serve(connection: socket.socket, span: Span) -> None:
    """Do what the frames say until the other side closes the connection."""
    total = PartialSum(span)
    while True:
        try:
            operation, size = _HEADER.unpack(_receive(connection, _HEADER.size))
            content = _receive(connection, size)
        except (EOFError, ConnectionError):
            return
        if operation == ADD:
            try:
                total.add_file(Path(os.fsdecode(content)))
            except IntegrityError:
                connection.sendall(TRUNCATED)
                continue
        elif operation == MASK:
            total.mask(unpacked(content))
        connection.sendall(DONE)
        if operation == TAKE:
            connection.sendall(as_bytes(total.words))


def main() -> None:
    """Serve on the standard input; the arguments are first word and number of words."""
    first_word, words = map(int, sys.argv[1:])
    with socket.socket(fileno=0) as connection:
        serve(connection, Span(first_word, words))


if __name__ == "__main__":
    main()
