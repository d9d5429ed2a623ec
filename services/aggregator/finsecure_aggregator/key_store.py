"""Encryption keys on the aggregator's disk, verified when they come from the key service."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from finsecure_crypto.certificates import TrustAnchors
from finsecure_crypto.errors import IntegrityError, NotFoundError, StateError
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_rpc.authenticator import RevocationSource
from finsecure_rpc.durable import write_file
from finsecure_rpc.encryption_keys import RegisteredKey

from finsecure_aggregator.ciphers import KeyFile
from finsecure_aggregator.encryption import HeldKey, unknown_key


class KeyStore:
    """Keeps the keys that tasks use; a key never changes, so rounds need no network for one.

    Args:
        folder: where they are kept.
        download: reads a key from the key service.
        trust_domain: of the federation.
        anchors: gives the certificate authorities.
        revocations: gives the revocation list.
    """

    def __init__(
        self,
        folder: Path,
        download: Callable[[str], Awaitable[RegisteredKey]],
        trust_domain: str,
        anchors: Callable[[], TrustAnchors],
        revocations: RevocationSource,
    ) -> None:
        self._folder = folder
        self._download = download
        self._trust_domain = trust_domain
        self._anchors = anchors
        self._revocations = revocations

    async def key(self, name: str) -> HeldKey:
        """Give a key; see `encryption.KeySource`."""
        record = self._record(name)
        if not await asyncio.to_thread(record.exists):
            return await self.enabled_key(name)
        return await asyncio.to_thread(_read, record)

    async def enabled_key(self, name: str) -> HeldKey:
        """Give a key for something new; see `encryption.KeySource`.

        Raises:
            IntegrityError: ENCRYPTION_KEY_CHANGED for one that was another key before.
        """
        record = self._record(name)
        try:
            key = await self._download(name)
        except NotFoundError as error:
            raise unknown_key(name) from error
        if not key.state.encrypts:
            raise StateError("KEY_STATE", f"{name} is {key.state.value}; use a key that is enabled")
        await asyncio.to_thread(
            key.verify, self._trust_domain, self._anchors(), self._revocations.current()
        )
        if not await asyncio.to_thread(record.exists):
            await asyncio.to_thread(self._write, key, record)
        held = await asyncio.to_thread(_read, record)
        if held.digest != key.description.digest:
            raise IntegrityError(
                "ENCRYPTION_KEY_CHANGED",
                f"the key service has another {name} than before, and keys never change; ask its "
                "operator what happened, and use a key of another name",
            )
        return held

    def _record(self, name: str) -> Path:
        return self._folder / f"{name.rsplit('/', 1)[-1]}.json"

    def _write(self, key: RegisteredKey, record: Path) -> None:
        description = key.description
        self._folder.mkdir(parents=True, exist_ok=True)
        write_file(record.with_suffix(".key"), key.public_key)
        document = {
            "name": description.name,
            "mode": description.mode.value,
            "digest": description.digest.hex(),
            "threshold": description.threshold,
            "trustees": key.trustees,
        }
        write_file(record, json.dumps(document).encode())


def _read(record: Path) -> HeldKey:
    document = json.loads(record.read_bytes())
    return HeldKey(
        name=document["name"],
        digest=bytes.fromhex(document["digest"]),
        threshold=document["threshold"],
        trustees={int(holder): trustee for holder, trustee in document["trustees"].items()},
        file=KeyFile(Mode(document["mode"]), record.with_suffix(".key")),
    )
