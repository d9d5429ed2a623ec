"""The process that touches ciphertexts: `python -m finsecure_aggregator.cipher_worker MODE KEY`.

The libraries of the schemes are native code, and what they are given comes from clients and
trustees: so it is parsed and added here, in a process that may die alone. It reads and writes
files itself; over its standard input come requests as JSON, one a frame. It ends when that does.
"""

import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from finsecure_crypto.encoding import CountSection, RealSection, VectorLayout
from finsecure_crypto.errors import FinSecureError, IntegrityError
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.registry import load_key
from finsecure_crypto.homomorphic.scheme import EncryptionKey
from safetensors.numpy import save

from finsecure_aggregator import frames

REQUEST, ANSWER, REFUSAL = b"?", b"+", b"-"
_RUN_BYTES = 8 << 20  # proofs are verified faster in long runs

Request = Mapping[str, Any]


def layout_document(layout: VectorLayout) -> dict[str, Any]:
    """Write a layout as JSON; `_layout` reads it back."""
    sections = [
        ["count", s.name, s.length, s.maximum]
        if isinstance(s, CountSection)
        else ["real", s.name, s.length, float(s.bound).hex(), s.value_bits]
        for s in layout.sections
    ]
    return {"cohort": layout.cohort, "sections": sections}


def _layout(document: Mapping[str, Any]) -> VectorLayout:
    return VectorLayout(tuple(map(_section, document["sections"])), document["cohort"])


def _section(item: list[Any]) -> CountSection | RealSection:
    match item:
        case ["count", name, length, maximum]:
            return CountSection(name, length, maximum)
        case ["real", name, length, bound, value_bits]:
            return RealSection(name, length, float.fromhex(bound), value_bits)
    raise ValueError("no such section")


class Work:
    """What a worker does, and the sum that it has so far.

    Args:
        key: the encryption key.
    """

    def __init__(self, key: EncryptionKey) -> None:
        self._key = key
        self._sum: list[bytes] = []

    def shape(self, request: Request) -> bytes:
        """Say how large an input of a layout is, and the error of a sum."""
        layout = _layout(request["layout"])
        shape = self._key.shape(layout)
        answer = {
            "ciphertext_bytes": shape.size_bytes,
            "input_bytes": shape.input_bytes,
            "error_bound": self._key.error_bound(layout),
        }
        return json.dumps(answer).encode()

    def check(self, request: Request) -> bytes:
        """Look into every ciphertext of a file, and at the proof behind them."""
        with Path(request["path"]).open("rb") as file:
            file.seek(self._key.ciphertext_part(request["input_bytes"]))
            proof = file.read()
        self._key.check_input(self._runs(request), proof, bytes.fromhex(request["binding"]))
        return b""

    def add(self, request: Request) -> bytes:
        """Add a file's ciphertexts to the sum."""
        if not self._sum:
            self._sum = list(self._runs(request))
            return b""
        for index, run in enumerate(self._runs(request)):
            self._sum[index] = self._key.add(self._sum[index], run)
        return b""

    def total(self, request: Request) -> bytes:
        """Write the sum into a file and give its SHA-256."""
        digest = hashlib.sha256()
        path = Path(request["path"])
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            for run in self._sum:
                file.write(run)
                digest.update(run)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        return digest.digest()

    def verify(self, request: Request) -> bytes:
        """Judge one partial decryption by itself."""
        self._key.verify_partial(
            Path(request["total"]).read_bytes(),
            request["holder"],
            Path(request["partial"]).read_bytes(),
            bytes.fromhex(request["context"]),
        )
        return b""

    def combine(self, request: Request) -> bytes:
        """Open the sum with partial decryptions; the answer is a safetensors file."""
        partials = {
            int(holder): Path(path).read_bytes() for holder, path in request["partials"].items()
        }
        sums = self._key.combine(
            _layout(request["layout"]),
            request["contributors"],
            Path(request["total"]).read_bytes(),
            partials,
            bytes.fromhex(request["context"]),
        )
        return save(sums)

    def _runs(self, request: Request) -> Iterator[bytes]:
        """Read the ciphertexts of a file in runs of whole ones.

        Raises:
            IntegrityError: BLOB_TRUNCATED; the file is not an input.
        """
        each, whole = request["ciphertext_bytes"], request["input_bytes"]
        left, size = self._key.ciphertext_part(whole), each * max(1, _RUN_BYTES // each)
        with Path(request["path"]).open("rb") as file:
            if os.fstat(file.fileno()).st_size != whole:
                raise IntegrityError(
                    "BLOB_TRUNCATED", f"{request['path']} has not the input's size"
                )
            while left:
                run = file.read(min(size, left))
                left -= len(run)
                yield run


def serve(connection: socket.socket, work: Work) -> None:
    """Do what the requests say until the other side closes the connection."""
    operations: dict[str, Callable[[Request], bytes]] = {
        operation.__name__: operation
        for operation in (
            work.shape,
            work.check,
            work.add,
            work.total,
            work.verify,
            work.combine,
        )
    }
    while True:
        try:
            _, content = frames.receive(connection)
        except (EOFError, ConnectionError):
            return
        request = json.loads(content)
        try:
            frames.send(connection, ANSWER, operations[request["do"]](request))
        except FinSecureError as error:
            refusal = [type(error).__name__, error.code, error.message, error.culprit]
            frames.send(connection, REFUSAL, json.dumps(refusal).encode())


def main() -> None:
    """Serve on the standard input; the arguments are the mode and the key's file."""
    mode, path = sys.argv[1:]
    with socket.socket(fileno=0) as connection:
        try:
            key = load_key(Mode(mode), Path(path).read_bytes())
        except FinSecureError as error:
            # Whoever asks first hears it.
            frames.receive(connection)
            refusal = [type(error).__name__, error.code, error.message, error.culprit]
            frames.send(connection, REFUSAL, json.dumps(refusal).encode())
            return
        serve(connection, Work(key))


if __name__ == "__main__":
    main()
