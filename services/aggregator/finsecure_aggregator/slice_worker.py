"""The process that holds one slice: `python -m finsecure_aggregator.slice_worker`.

It talks to the process that started it in frames over its standard input. It reads the inputs'
files itself, so what goes over the socket are their names, the masks, and at the end the sum. It
ends when the socket does.
"""

import os
import socket
import sys
from pathlib import Path

import numpy as np
from finsecure_crypto.errors import IntegrityError

from finsecure_aggregator import frames
from finsecure_aggregator.slices import PartialSum, Span, Words, unpacked

ADD, MASK, TAKE = b"A", b"M", b"T"
DONE, TRUNCATED = b"+", b"-"


def as_bytes(words: Words) -> memoryview:
    """Give the bytes of an array, in place."""
    return words.view(np.uint8).data


def serve(connection: socket.socket, span: Span) -> None:
    """Do what the frames say until the other side closes the connection."""
    total = PartialSum(span)
    while True:
        try:
            operation, content = frames.receive(connection)
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
