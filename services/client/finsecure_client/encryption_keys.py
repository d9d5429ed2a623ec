"""Encryption keys as this client accepts them: from the key service, signed by the trustees."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from finsecure_crypto.errors import IntegrityError, PolicyError
from finsecure_crypto.federation import Encryption
from finsecure_crypto.homomorphic.key_record import verified_key
from finsecure_crypto.homomorphic.scheme import EncryptionKey
from finsecure_rpc.encryption_keys import RegisteredKey

from finsecure_client.policy import Policy
from finsecure_client.trust import Trust


class EncryptionKeys(Protocol):
    """Gives verified encryption keys."""

    async def key(self, encryption: Encryption, digest: bytes) -> EncryptionKey:
        """Give the key of a round.

        Args:
            encryption: mode and name, as the task says.
            digest: 32 bytes, as the aggregator says.

        Raises:
            IntegrityError, AuthenticationError, PolicyError: the key must not be used.
            FinSecureError: the key service cannot be reached, or does not have it.
        """


class KeyRegister:
    """The keys of the key service, asked for anew in each round: a key may be withdrawn.

    Args:
        download: reads a key from the key service.
        trust: whose certificates are believed.
        policy: which keys and trustees are accepted.
    """

    def __init__(
        self,
        download: Callable[[str], Awaitable[RegisteredKey]],
        trust: Trust,
        policy: Policy,
    ) -> None:
        self._download = download
        self._trust = trust
        self._policy = policy
        self._newest: EncryptionKey | None = None  # what it has precomputed is worth keeping

    async def key(self, encryption: Encryption, digest: bytes) -> EncryptionKey:
        """Give the key of a round; see `EncryptionKeys`."""
        registered = await self._download(encryption.key_name)
        description = registered.description
        if (description.digest, description.mode) != (digest, encryption.mode):
            raise IntegrityError(
                "KEY_MISMATCH",
                f"the aggregator and the key service mean different keys by {description.name}; "
                "nothing is encrypted",
            )
        if not registered.state.encrypts:
            raise PolicyError(
                "KEY_STATE", f"{description.name} is {registered.state.value}; nothing is encrypted"
            )
        self._policy.check_key(description.generation, registered.trustees.values())
        await asyncio.to_thread(self._trust.check_encryption_key, registered)
        if self._newest is None or self._newest.digest() != digest:
            self._newest = await asyncio.to_thread(verified_key, description, registered.public_key)
        return self._newest
