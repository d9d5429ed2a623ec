"""A member's side of audited sums: ask for one, contribute, and read the totals."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from finsecure_crypto.errors import IntegrityError, StateError, UnavailableError
from finsecure_crypto.federation import Encryption
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader, sign_input
from finsecure_crypto.homomorphic.sums import SumTerms
from finsecure_crypto.secagg.membership import Identity
from finsecure_rpc.backoff import Backoff
from finsecure_rpc.federation_minima import Minima

from finsecure_client.encrypted_input import encrypted
from finsecure_client.encryption_keys import EncryptionKeys
from finsecure_client.sums.book import Book, Kept
from finsecure_client.sums.policy import SumPolicy
from finsecure_client.sums.terms import COLLECTING, AuditedSum, SumSummary

_DAY_S = 86_400.0
_HOUR_S = 3600.0


class Service(Protocol):
    """The calls that are made, as `transport.SumService` makes them."""

    async def create(
        self, name: str, terms: SumTerms, description: str, collecting_s: float, opening_s: float
    ) -> AuditedSum:
        """Ask for contributions."""

    async def get(self, name: str) -> AuditedSum:
        """Read one sum."""

    async def list(self, federation: str) -> list[SumSummary]:
        """Read all sums."""

    async def contribute(self, name: str, header: EncryptedInputHeader, ciphertexts: bytes) -> None:
        """Send a contribution."""

    async def open(self, name: str) -> AuditedSum:
        """Have the totals opened."""

    async def cancel(self, name: str) -> AuditedSum:
        """End a sum without totals."""

    def watch(self, name: str) -> AsyncIterator[AuditedSum]:
        """Yield the sum whenever it changes."""


class AuditedSums:
    """The federation's audited sums, as this member takes part in them.

    Args:
        service: the aggregator.
        policy: what is contributed to at all.
        keys: gives verified encryption keys.
        book: what was contributed before.
        minima: what the federation demands of cohorts beside the own policy.
        identity: returns the newest identity.
    """

    def __init__(
        self,
        service: Service,
        policy: SumPolicy,
        keys: EncryptionKeys,
        book: Book,
        minima: Minima,
        identity: Callable[[], Identity],
    ) -> None:
        self._service = service
        self._policy = policy
        self._keys = keys
        self._book = book
        self._minima = minima
        self._identity = identity

    async def create(
        self,
        sum_: str,
        labels: Sequence[str],
        *,
        maximum: int,
        encryption_key: str,
        description: str = "",
        minimum_contributors: int = 50,
        maximum_contributors: int = 10_000,
        collecting_s: float = _DAY_S,
        opening_s: float = _HOUR_S,
    ) -> AuditedSum:
        """Ask all members to contribute an integer for each label.

        Args:
            sum_: id of the new sum, or its resource name.
            labels: what each value is about.
            maximum: largest value that one member may give to a label.
            encryption_key: id of a Paillier key, or its resource name.
            description: what for, in words.
            minimum_contributors: fewest whose total is opened; others may demand more.
            maximum_contributors: most of them.
            collecting_s: how long contributions are taken.
            opening_s: how long trustees are asked.

        Raises:
            FinSecureError: what is wrong with the terms, or what the aggregator answers.
        """
        key = encryption_key
        if "/" not in key:
            key = f"federations/{self._policy.federation}/encryptionKeys/{key}"
        terms = SumTerms(tuple(labels), maximum, minimum_contributors, maximum_contributors, key)
        return await self._service.create(
            self._name(sum_), terms, description, collecting_s, opening_s
        )

    async def get(self, sum_: str) -> AuditedSum:
        """Read one sum, by id or resource name.

        Raises:
            IntegrityError: SUM_MISMATCH, where the aggregator answers with another one.
        """
        name = self._name(sum_)
        found = await self._service.get(name)
        if found.name != name:
            raise IntegrityError("SUM_MISMATCH", f"the aggregator answered with {found.name}")
        return found

    async def list(self) -> Sequence[SumSummary]:
        """Read all sums of the federation, without labels and totals."""
        return await self._service.list(self._policy.federation)

    async def contribute(self, sum_: str, values: Mapping[str, int]) -> AuditedSum:
        """Contribute to a sum; once, the same again is harmless and renews the signature.

        Signatures count as long as the certificate does, a day by default: for a sum that takes
        contributions for longer, contribute the same again now and then.

        Args:
            sum_: id or resource name.
            values: integers by label; labels left out count as 0.

        Returns:
            The sum that was contributed to, as it was before.

        Raises:
            StateError: SUM_NOT_COLLECTING.
            PolicyError: what the policy does not allow; COHORT_BELOW_FEDERATION_MINIMUM;
                SUM_CHANGED or CONTRIBUTION_MADE.
            InvalidArgumentError: LABEL_UNKNOWN or VALUE_OUT_OF_RANGE.
            FinSecureError: what is wrong with the key, or what the aggregator answers.
        """
        found = await self.get(sum_)
        if found.state != COLLECTING:
            raise StateError(
                "SUM_NOT_COLLECTING", f"{found.name} is {found.state}; it takes nothing more"
            )
        encoded = found.terms.values(values)
        self._policy.check(found.name, found.terms, values)
        await self._minima.require_sum(found.terms.minimum_contributors)
        binding = found.binding()
        kept = self._book.find(found.name, binding.context(), values)
        if kept is None:
            encryption = Encryption(Mode.PAILLIER, found.terms.key_name)
            key = await self._keys.key(encryption, found.key_digest)
            client = self._identity().client_id
            content = await asyncio.to_thread(
                lambda: b"".join(
                    encrypted(key, found.terms.layout(), encoded, binding.input_binding(client))
                )
            )
            kept = Kept(binding.context(), dict(values), content)
            await asyncio.to_thread(self._book.keep, found.name, kept)
        identity = self._identity()
        header = sign_input(
            binding,
            len(kept.ciphertexts),
            hashlib.sha256(kept.ciphertexts).digest(),
            signing_key=identity.signing_key,
            certificate=identity.certificate,
        )
        await self._service.contribute(found.name, header, kept.ciphertexts)
        return found

    async def open(self, sum_: str) -> AuditedSum:
        """Have the totals of an own sum opened; StateError SUM_GROUP_TOO_SMALL: wait for more."""
        return await self._service.open(self._name(sum_))

    async def cancel(self, sum_: str) -> AuditedSum:
        """End an own sum without totals."""
        return await self._service.cancel(self._name(sum_))

    async def totals(self, sum_: str) -> Mapping[str, int]:
        """Wait until a sum has ended and give its totals by label.

        They are the aggregator's word: trustees open only what enough members have signed, but
        what they opened is combined by the aggregator.

        Raises:
            StateError: SUM_NOT_OPENED, where it has ended without totals; the message says why.
        """
        name, backoff = self._name(sum_), Backoff(0.2, 10.0)
        found = await self.get(name)
        while not found.ended:
            try:
                async for found in self._service.watch(name):
                    if found.ended:
                        break
            except UnavailableError:
                await asyncio.sleep(backoff.next_s())
        if found.name != name or found.totals is None:
            why = found.detail or found.reason
            raise StateError("SUM_NOT_OPENED", f"{name} is {found.state}: {why}")
        return found.totals

    def _name(self, sum_: str) -> str:
        return sum_ if "/" in sum_ else f"federations/{self._policy.federation}/sums/{sum_}"
