"""The process that touches ciphertexts: `python -m finsecure_keyservice.trustee.worker`.

It adds contributions up, or makes a partial decryption, never both in one life: what has parsed
strangers' bytes is never given a share. It talks over its standard input and output in frames of an
operation, a length and bytes; nothing is pickled. It ends when its input does.
"""

import os
import resource
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

from finsecure_crypto.errors import FinSecureError, IntegrityError
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.registry import load_key, load_share
from finsecure_crypto.homomorphic.scheme import EncryptionKey
from finsecure_crypto.secret import SecretBytes

KEY, PIECE, ADD, TOTAL, SHARE, PARTIAL = b"K", b"P", b"A", b"T", b"S", b"D"
DONE, REFUSED = b"+", b"-"
HEADER = struct.Struct("<cI")


class Work:
    """What one worker does, without the pipes."""

    def __init__(self) -> None:
        self._key: EncryptionKey | None = None
        self._buffer = bytearray()
        self._total: bytes | None = None
        self._share: SecretBytes | None = None
        self._operations: dict[bytes, Callable[[bytes], bytes]] = {
            KEY: self._take_key,
            PIECE: self._take_piece,
            ADD: self._add,
            TOTAL: self._take_total,
            SHARE: self._take_share,
            PARTIAL: self._partial,
        }

    def do(self, operation: bytes, content: bytes) -> bytes:
        """Do one operation and return its answer."""
        return self._operations[operation](content)

    def _take_key(self, content: bytes) -> bytes:
        mode, _, data = content.partition(b"\0")
        self._key = load_key(Mode(mode.decode()), data)
        return b""

    @property
    def _loaded(self) -> EncryptionKey:
        assert self._key is not None  # noqa: S101 - the key comes first
        return self._key

    def _take_piece(self, content: bytes) -> bytes:
        self._buffer += content
        return b""

    def _add(self, binding: bytes) -> bytes:
        given, key = bytes(self._buffer), self._loaded
        self._buffer.clear()
        end = key.ciphertext_part(len(given))
        run = given[:end]
        key.check_input([run], given[end:], binding)
        self._total = run if self._total is None else key.add(self._total, run)
        return b""

    def _take_total(self, _: bytes) -> bytes:
        if self._total is None:
            raise IntegrityError("CIPHERTEXT_MALFORMED", "nothing was added")
        return self._total

    def _take_share(self, content: bytes) -> bytes:
        self._share = SecretBytes(content)
        return b""

    def _partial(self, context: bytes) -> bytes:
        assert self._share is not None  # noqa: S101 - the share comes before
        share = load_share(self._loaded.mode, self._share)
        return share.partial(self._loaded, bytes(self._buffer), context)


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Do what the frames say until there are no more."""
    work = Work()
    while header := source.read(HEADER.size):
        operation, size = HEADER.unpack(header)
        content = source.read(size)
        if len(content) != size:
            return
        try:
            answer = work.do(operation, content)
        except FinSecureError as error:
            told = "\0".join((type(error).__name__, error.code, error.message)).encode()
            sink.write(HEADER.pack(REFUSED, len(told)) + told)
        else:
            sink.write(HEADER.pack(DONE, len(answer)))
            sink.write(answer)
        sink.flush()


def main() -> None:
    """Serve on the standard input and output; whatever a library prints goes to standard error."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a share never lands in a core dump
    with os.fdopen(os.dup(1), "wb") as sink:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
