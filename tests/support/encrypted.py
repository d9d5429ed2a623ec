"""Encrypted rounds in tests: keys of all modes, signed inputs, and trustees that may misbehave."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, reduce
from pathlib import Path
from typing import Any

from finsecure_aggregator.ciphers import CipherWorkers, KeyFile
from finsecure_aggregator.encryption import EncryptionDesk, HeldKey, Opening
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import ProtocolViolationError, StateError, UnavailableError
from finsecure_crypto.homomorphic.key_record import (
    Endorsement,
    Generation,
    KeyDescription,
    KeyState,
)
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.rounds import (
    EncryptedInputHeader,
    EncryptedRoundParameters,
    sign_input,
)
from finsecure_crypto.signing import SigningKey
from finsecure_rpc.encryption_keys import RegisteredKey

from tests.support import lattice, paillier
from tests.support.pki import TestAuthority, utc_now

KEY_NAME = "federations/lending/encryptionKeys/first"
TRUSTEES = {1: "north", 2: "south", 3: "west"}


@cache
def keys(mode: Mode) -> tuple[Any, Mapping[int, Any]]:
    """A key and its shares by holder, for tests only."""
    if mode is not Mode.PAILLIER:
        return lattice.ceremony(mode)
    dealt = paillier.dealt(2048)
    return dealt.key, {share.holder: share for share in dealt.shares}


def held_key(mode: Mode, folder: Path) -> HeldKey:
    """The public key on the disk, as the aggregator has it."""
    key, _ = keys(mode)
    path = folder / f"{mode.value}.key"
    path.write_bytes(key.serialise())
    return HeldKey(KEY_NAME, key.digest(), key.threshold, TRUSTEES, KeyFile(mode, path))


def registered_key(pki: TestAuthority, folder: Path) -> RegisteredKey:
    """An enabled BGV key as the key service delivers it, signed by its three trustees."""
    key, _ = keys(Mode.BGV)
    description = KeyDescription(KEY_NAME, Mode.BGV, Generation.DISTRIBUTED, 3, 2, key.digest())
    endorsements = []
    for holder, name in TRUSTEES.items():
        identity = pki.enrol(folder / name, Role.TRUSTEE, name).current()
        signature = identity.signing_key.sign(*description.endorsement(holder))
        endorsements.append(Endorsement(name, holder, signature, identity.signing_certificate))
    return RegisteredKey(description, endorsements, KeyState.ENABLED, utc_now(), key.serialise())


@dataclass
class FakeTrustee:
    """A trustee in the same process; it does not check what it is asked.

    Attributes:
        mode: of its share.
        conduct: "honest", "down", "slow", "refuses", "lies" (another sum's partial), "garbage", or
            "accuses:<client>" as long as that client is in the manifest.
        asked: digests of the requests that it has had.
        asked_twice: set by the second one.
        patience: what a slow one waits for.
    """

    mode: Mode
    conduct: str = "honest"
    asked: list[bytes] = field(default_factory=list)
    asked_twice: asyncio.Event = field(default_factory=asyncio.Event)
    patience: asyncio.Event = field(default_factory=asyncio.Event)

    async def partially_decrypt(self, opening: Opening, holder: int) -> bytes:
        self.asked.append(opening.request.digest())
        if len(self.asked) == 2:
            self.asked_twice.set()
        accused = self.conduct.removeprefix("accuses:")
        if accused in [each.client for each in opening.manifest]:
            raise ProtocolViolationError("CONTRIBUTION_REUSED", "seen before", culprit=accused)
        match self.conduct:
            case "down":
                raise UnavailableError("SERVICE_UNREACHABLE", "no route")
            case "slow":
                await self.patience.wait()
            case "refuses":
                raise StateError("ALREADY_OPENED", "this round has been opened")
            case "garbage":
                return b"\xff" * 100
        key, shares = keys(self.mode)
        total = add(self.mode, [path.read_bytes() for path in opening.inputs])
        if self.conduct == "lies":
            total = key.add(total, total)
        return shares[holder].partial(key, total, opening.request.digest())


def add(mode: Mode, inputs: list[bytes]) -> bytes:
    """The homomorphic sum of inputs, without their proofs."""
    key, _ = keys(mode)
    return reduce(key.add, (each[: key.ciphertext_part(len(each))] for each in inputs))


@dataclass(frozen=True)
class Keys:
    """A key source with one key."""

    held: HeldKey

    async def key(self, name: str) -> HeldKey:
        assert name == self.held.name
        return self.held

    enabled_key = key


def desk(
    mode: Mode,
    folder: Path,
    conducts: Mapping[int, str],
    *,
    patience_s: float = 60,
    module: str = "finsecure_aggregator.cipher_worker",
) -> EncryptionDesk:
    """All that encrypted rounds need, with trustees by their conduct."""
    return EncryptionDesk(
        Keys(held_key(mode, folder)),
        CipherWorkers(2, 60, module),
        {name: FakeTrustee(mode, conducts.get(h, "honest")) for h, name in TRUSTEES.items()},
        round(patience_s * 1e9),
    )


def signed(
    parameters: EncryptedRoundParameters, content: bytes, key: SigningKey, client: str
) -> EncryptedInputHeader:
    """A client's header; its certificate is its name."""
    return sign_input(
        parameters.binding(),
        len(content),
        hashlib.sha256(content).digest(),
        signing_key=key,
        certificate=client.encode(),
    )
