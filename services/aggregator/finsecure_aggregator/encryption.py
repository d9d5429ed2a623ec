"""What encrypted rounds and sums need beside the clients: keys, workers, and the trustees.

The aggregator has public keys only. Trustees hold shares of the secret ones, and each decides for
itself whether it helps to open a sum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from finsecure_crypto.errors import InvalidArgumentError, NotFoundError
from finsecure_crypto.federation import Encryption
from finsecure_crypto.homomorphic.decryption import (
    Contribution,
    DecryptionRequest,
    EncryptedContext,
    manifest_digest,
)
from finsecure_crypto.homomorphic.mode import Mode

from finsecure_aggregator.ciphers import CipherWorkers, KeyFile
from finsecure_aggregator.plan import Plan, require_size


@dataclass(frozen=True)
class HeldKey:
    """A verified encryption key on this machine's disk.

    Attributes:
        name: resource name.
        digest: 32 bytes.
        threshold: how many trustees open a sum.
        trustees: ids by number of their share.
        file: the key itself.
    """

    name: str
    digest: bytes
    threshold: int
    trustees: Mapping[int, str]
    file: KeyFile


@dataclass(frozen=True)
class Opening:
    """All that a trustee is shown before it helps to open a sum.

    Attributes:
        request: what is to be opened.
        manifest: the signed contributions, in the order of the clients' ids.
        inputs: their files, in the same order.
    """

    request: DecryptionRequest
    manifest: Sequence[Contribution]
    inputs: Sequence[Path]

    @classmethod
    def of(
        cls,
        context: EncryptedContext,
        manifest: Sequence[Contribution],
        inputs: Sequence[Path],
        input_bytes: int,
        total_sha256: bytes,
    ) -> Self:
        """Make the request for the total of a manifest; the same arguments make the same one.

        Args:
            context: what the contributions were made for.
            manifest: in the order of the clients' ids.
            inputs: their files, in the same order.
            input_bytes: of each.
            total_sha256: of the total.
        """
        request = DecryptionRequest(
            context, len(manifest), input_bytes, manifest_digest(manifest), total_sha256
        )
        return cls(request, manifest, inputs)


class Trustee(Protocol):
    """One trustee, as this aggregator reaches it."""

    async def partially_decrypt(self, opening: Opening, holder: int) -> bytes:
        """Ask for a partial decryption; the same question gets the same answer.

        Returns:
            The partial decryption, whose signature by the trustee was verified.

        Raises:
            UnavailableError: it cannot be reached.
            FinSecureError: it refuses, or its answer is not its own.
        """


class KeySource(Protocol):
    """Gives encryption keys."""

    async def key(self, name: str) -> HeldKey:
        """Give a key that has been verified: trustees' signatures, certificates, digest.

        Raises:
            NotFoundError: ENCRYPTION_KEY_NOT_FOUND.
            FinSecureError: it is not what its trustees have signed.
            UnavailableError: it is not here yet, and the key service cannot be reached.
        """

    async def enabled_key(self, name: str) -> HeldKey:
        """Give a key for something new; the key service is asked whether it may be used for that.

        Raises:
            StateError: KEY_STATE for one that nothing new is encrypted with.
            UnavailableError: the key service cannot be reached.
            FinSecureError: as `key`.
        """


@dataclass(frozen=True)
class EncryptionDesk:
    """What all encrypted rounds and audited sums share.

    Attributes:
        keys: gives encryption keys.
        workers: touch ciphertexts.
        trustees: by id, as configured.
        patience_ns: how long a trustee may take before another one is asked as well.
    """

    keys: KeySource
    workers: CipherWorkers
    trustees: Mapping[str, Trustee]
    patience_ns: int

    async def check(self, plan: Plan) -> None:
        """Check that a task's key exists, can be opened from here, and fits to its rounds.

        Raises:
            InvalidArgumentError: PROTECTION_MISMATCH, TRUSTEES_NOT_CONFIGURED, MODEL_TOO_LARGE, or
                what the scheme says of the layout: LANE_OVERFLOW, COHORT_TOO_LARGE, ERROR_BOUND.
            FinSecureError: what `KeySource.enabled_key` raises.
        """
        protection = plan.terms.protection
        if not isinstance(protection, Encryption):
            return
        held = await self.usable(protection.key_name, protection.mode)
        for layout in plan.layouts():
            shape = await self.workers.shape(held.file, layout)
            require_size(shape.input_bytes)

    async def usable(self, key_name: str, mode: Mode) -> HeldKey:
        """Give a key for something new that is of this scheme and can be opened from here.

        Raises:
            InvalidArgumentError: PROTECTION_MISMATCH or TRUSTEES_NOT_CONFIGURED.
            FinSecureError: what `KeySource.enabled_key` raises.
        """
        held = await self.keys.enabled_key(key_name)
        if held.file.mode is not mode:
            raise InvalidArgumentError(
                "PROTECTION_MISMATCH",
                f"{held.name} is a key of {held.file.mode.value}, and {mode.value} is asked for; "
                "change one of them",
            )
        known = self.trustees.keys() & set(held.trustees.values())
        if len(known) < held.threshold:
            raise InvalidArgumentError(
                "TRUSTEES_NOT_CONFIGURED",
                f"{held.threshold} of {sorted(held.trustees.values())} open a sum, and the "
                f"aggregator knows {sorted(known)}; add them to [[trustees]]",
            )
        return held


def unknown_key(name: str) -> NotFoundError:
    """Make the error for a key that the key service does not have."""
    return NotFoundError(
        "ENCRYPTION_KEY_NOT_FOUND",
        f"there is no encryption key {name}; make one: finsecure ceremony",
    )
