"""Frames between the aggregator and its worker processes: an operation, a length, and bytes.

They go over a Unix socket that is the worker's standard input; nothing is pickled.
"""

import socket
import struct
import subprocess
import sys

_HEADER = struct.Struct("<cI")


def send(connection: socket.socket, operation: bytes, content: bytes = b"") -> None:
    """Send a frame; the operation is one byte."""
    connection.sendall(_HEADER.pack(operation, len(content)) + content)


def receive(connection: socket.socket) -> tuple[bytes, bytes]:
    """Receive a frame: its operation and its content.

    Raises:
        EOFError: the other side has gone.
    """
    operation, size = _HEADER.unpack(_receive(connection, _HEADER.size))
    return operation, _receive(connection, size)


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


def start_worker(
    module: str, arguments: list[str], connection: socket.socket
) -> subprocess.Popen[bytes]:
    """Start a module as a worker that serves a connection.

    It is started afresh, not forked, since gRPC's threads do not survive a fork.
    """
    # -P: the folder that the aggregator was started in holds no code of ours.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=connection.fileno(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal is for the aggregator alone
    )
