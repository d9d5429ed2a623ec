"""What this machine can do at most: the denominators of all ratios, measured in the same run."""

import asyncio
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks.figures import Figure, Figures, Progress, seconds

_CHUNK_BYTES = 2**20
_SERVICE = "finsecure.benchmark.Empty"


def openssl_version() -> str:
    """Returns what the `openssl` command calls itself."""
    return _openssl("version").split(" (")[0].strip()


def openssl_ctr() -> float:
    """Returns the GB/s of AES-128-CTR in blocks of 16 KiB that `openssl speed` shows.

    Raises:
        RuntimeError: there is no `openssl` command, or it printed something else.
    """
    shown = _openssl("speed", "-seconds", "1", "-bytes", "16384", "-evp", "aes-128-ctr")
    match = re.search(r"^AES-128-CTR\s+([\d.]+)k", shown, re.MULTILINE | re.IGNORECASE)
    if match is None:
        raise RuntimeError(f"openssl speed printed no figure: {shown[-500:]}")
    return float(match[1]) * 1000 / 1e9


def _openssl(*arguments: str) -> str:
    command = shutil.which("openssl")
    if command is None:
        raise RuntimeError("the openssl command is missing; install it to measure the raw limits")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def measure(repetitions: int, progress: Progress, *, calls: int = 2000) -> Figures:
    """Measures the machine's own limits.

    Args:
        repetitions: of each measurement.
        progress: is told what comes next.
        calls: operations in one repetition.
    """
    progress("raw limits: AES-128-CTR")
    figures = {
        "openssl_aes_128_ctr_gb_s": Figure(tuple(openssl_ctr() for _ in range(repetitions)), "GB/s")
    }
    progress("raw limits: memory, X25519, Ed25519")
    figures["memory_add_gb_s"] = _memory(repetitions)
    for name, one in (("x25519_us", x25519_seconds), ("ed25519_verify_us", ed25519_verify_seconds)):
        figures[name] = Figure(tuple(one() * 1e6 for _ in range(repetitions)), "µs")
    figures["sha256_gb_s"] = Figure(
        tuple(1e-9 / sha256_seconds_per_byte() for _ in range(repetitions)), "GB/s"
    )
    progress("raw limits: gRPC over loopback")
    return figures | asyncio.run(_grpc(repetitions, calls))


def _memory(repetitions: int) -> Figure:
    # Far above every cache; two operands are read and one is written.
    one, other = np.ones(2**25, np.uint64), np.ones(2**25, np.uint64)
    np.add(one, other, out=one)
    taken = seconds(lambda: np.add(one, other, out=one), repetitions, time.perf_counter)
    return Figure(tuple(3 * one.nbytes / each / 1e9 for each in taken), "GB/s")


def x25519_seconds(calls: int = 500) -> float:
    """Returns the CPU seconds of one X25519 exchange with keys that are parsed already."""
    private, public = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key()

    def work() -> None:
        for _ in range(calls):
            private.exchange(public)

    return statistics.median(seconds(work, 5)) / calls


def ed25519_verify_seconds(calls: int = 500) -> float:
    """Returns the CPU seconds of one check of a signature with a key that is parsed already."""
    key = Ed25519PrivateKey.generate()
    message = os.urandom(200)
    public, signature = key.public_key(), key.sign(message)

    def work() -> None:
        for _ in range(calls):
            public.verify(signature, message)

    return statistics.median(seconds(work, 5)) / calls


def sha256_seconds_per_byte() -> float:
    """Returns the CPU seconds of SHA-256 for each byte of a long message."""
    message = os.urandom(2**22)
    return statistics.median(seconds(lambda: hashlib.sha256(message).digest(), 5)) / len(message)


async def _grpc(repetitions: int, calls: int) -> Figures:
    """Measures an empty handler and a discarded stream, without TLS, client and server together."""

    async def empty(_request: bytes, _context: Any) -> bytes:
        return b""

    async def drain(chunks: AsyncIterator[bytes], _context: Any) -> bytes:
        async for _ in chunks:
            pass
        return b""

    server = grpc.aio.server()
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(empty),
        "Upload": grpc.stream_unary_rpc_method_handler(drain),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            unary = channel.unary_unary(f"/{_SERVICE}/Unary", bytes, bytes)
            upload = channel.stream_unary(f"/{_SERVICE}/Upload", bytes, bytes)
            await unary(b"", timeout=30)
            rates, speeds = [], []
            for _ in range(repetitions):
                start = time.perf_counter()
                for _ in range(calls):
                    await unary(b"", timeout=30)
                rates.append(calls / (time.perf_counter() - start))
                start = time.perf_counter()
                await upload(_chunks(calls // 10), timeout=120)
                megabytes = calls // 10 * _CHUNK_BYTES / 1e6
                speeds.append(megabytes / (time.perf_counter() - start))
    finally:
        await server.stop(grace=1)
    return {
        "grpc_unary_per_s": Figure(tuple(rates), "1/s"),
        "grpc_stream_mb_s": Figure(tuple(speeds), "MB/s"),
    }


async def _chunks(count: int) -> AsyncIterator[bytes]:
    chunk = bytes(_CHUNK_BYTES)
    for _ in range(count):
        yield chunk
