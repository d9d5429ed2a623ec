"""How much of what callers send a trustee has in memory at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_MANIFESTS_BYTES = 256 << 20
_CONTRIBUTION_BYTES = 2560
"""Most that one takes: its certificate, by the contract, and all else."""
_LEAST_BYTES = 4 << 20


class ManifestRoom:
    """Room for manifests: 256 MiB, which is one of the largest or 64 small ones.

    Whoever finds none waits, first come, first served, before a manifest is read. Flow control
    keeps what is sent meanwhile with the sender, and no refusal is lost behind an upload.
    """

    def __init__(self, size: int = _MANIFESTS_BYTES) -> None:
        self._free = size
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def taken(self, contributions: int) -> AsyncIterator[None]:
        """Have room for a manifest of so many contributions, at most 100 000."""
        size = max(_LEAST_BYTES, contributions * _CONTRIBUTION_BYTES)
        async with self._turn:
            while self._free < size:
                self._freed.clear()
                await self._freed.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._freed.set()
