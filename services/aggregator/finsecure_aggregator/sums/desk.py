"""All audited sums of the aggregator: what members and operators do with them."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finsecure_crypto.errors import (
    FinSecureError,
    ResourceExhaustedError,
)
from finsecure_crypto.homomorphic.decryption import Contribution, verify_contribution
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.rounds import require_input_size
from finsecure_rpc.shielded import Shielded

from finsecure_aggregator.ciphers import InputShape
from finsecure_aggregator.examination import examine
from finsecure_aggregator.sums import convert, store
from finsecure_aggregator.sums.plan import MOST_BYTES, SumPlan
from finsecure_aggregator.sums.records import SumRecord
from finsecure_aggregator.sums.runner import SumRunner, Surroundings
from finsecure_aggregator.sums.turns import Turns


class AuditedSums:
    """Collects contributions, and keeps a runner for each sum that has not ended.

    Args:
        around: what all sums share.
    """

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self._runners: dict[str, SumRunner] = {}
        self._turns = Turns()
        self._shielded = Shielded()

    async def start(self) -> None:
        """Go on with all sums that have not ended, and delete what nobody waits for."""
        names = await self.around.store.transact(store.unfinished)
        await asyncio.to_thread(self.around.blobs.keep_sums, frozenset(names))
        for name in names:
            self.run(name)

    async def stop(self) -> None:
        """Stop all runners; sums stay as they are in the store."""
        for runner in list(self._runners.values()):
            await runner.stop()

    def run(self, name: str) -> None:
        """Act on a sum that is new, or whose state was changed."""
        runner = self._runners.get(name)
        if runner is None:
            runner = self._runners[name] = SumRunner(self.around, name)
            runner.start(lambda: self._done(name))
        runner.look()
        self.around.changes.notify(name)

    def _done(self, name: str) -> None:
        self._runners.pop(name, None)
        self._turns.forget(name)

    async def give_up(self, name: str) -> None:
        """Stop the runner of a sum that was cancelled, and delete what it has."""
        if (runner := self._runners.get(name)) is not None:
            await runner.stop()
        await asyncio.to_thread(self.around.blobs.drop_sum, name)
        self.around.changes.notify(name)

    async def prepare(self, plan: SumPlan, creator: str) -> SumRecord:
        """Check a new sum, and make its record.

        Raises:
            PolicyError: MINIMUM_BELOW_POLICY or COHORT_BELOW_FEDERATION_MINIMUM.
            ResourceExhaustedError: SUM_TOO_LARGE.
            FinSecureError: what is wrong with the terms or the key.
        """
        plan.check(self.around.rules)
        await self.around.minima.require_sum(plan.terms.minimum_contributors)
        encryption, now_ns = self.around.encryption, self.around.clock.now_ns()
        held = await encryption.usable(plan.terms.key_name, Mode.PAILLIER)
        shape = await encryption.workers.shape(held.file, plan.terms.layout())
        if shape.input_bytes > MOST_BYTES:
            raise ResourceExhaustedError(
                "SUM_TOO_LARGE",
                f"a contribution would have {shape.input_bytes} bytes, {MOST_BYTES} are the most; "
                "ask for fewer labels",
            )
        return SumRecord(
            name=plan.name,
            spec=plan.spec,
            creator=creator,
            nonce=secrets.token_bytes(32),
            key_digest=held.digest,
            ciphertext_bytes=shape.ciphertext_bytes,
            input_bytes=shape.input_bytes,
            create_ns=now_ns,
            collecting_ns=now_ns + plan.collecting_ns,
        )

    async def contribute(self, name: str, contribution: Contribution, content: bytes) -> None:
        """Verify a member's ciphertexts and add them; they are on the disk when this returns.

        A caller that hangs up does not stop it, and the member's turn lasts until it is done.

        Raises:
            StateError: SUM_NOT_COLLECTING.
            ProtocolViolationError: what `require_input_size` or `examine` refuses,
                CONTRIBUTION_REPEATED, CONTRIBUTION_UNSIGNED.
            AuthenticationError: the certificate does not hold.
            ResourceExhaustedError: SUM_FULL, CONTRIBUTION_IN_PROGRESS or CONTRIBUTIONS_REFUSED.
            UnavailableError: EXAMINATION_TIMED_OUT.
        """
        await self._shielded.run(self._contribute(name, contribution, content))

    async def _contribute(self, name: str, contribution: Contribution, content: bytes) -> None:
        around, client, sha256 = self.around, contribution.client, contribution.sha256
        with self._turns.of(name, client):
            record = await around.store.transact(lambda c: store.read(c, name))
            plan = convert.plan(name, record.spec)
            shape = InputShape(record.ciphertext_bytes, record.input_bytes, 0.0)
            require_input_size(client, len(content), shape.input_bytes, shape.proof_bytes)
            most = plan.terms.maximum_contributors
            new = await around.store.transact(
                lambda c: store.check_contribution(c, record, most, client, sha256)
            )
            binding = plan.binding(record)
            verify_contribution(binding, contribution, record.input_bytes, around.verifier.verify)
            path = around.blobs.contribution_path(name, client, sha256)
            if new:
                key = (await around.encryption.keys.key(plan.terms.key_name)).file
                bound = binding.input_binding(client)
                with self._turns.examining(name, client), _unlinked_unless_fine(path):
                    await asyncio.to_thread(
                        around.blobs.write_contribution, name, client, sha256, content
                    )
                    await examine(around.encryption.workers, key, shape, path, client, bound)
            try:
                await around.store.transact(
                    lambda c: store.add_contribution(c, record, most, contribution)
                )
            except FinSecureError:
                # Another member sent the same, or the sum is full or being opened.
                if new:
                    await asyncio.to_thread(path.unlink, missing_ok=True)
                raise
        around.changes.notify(name)


@contextmanager
def _unlinked_unless_fine(path: Path) -> Iterator[None]:
    """Leave no file of what was not examined to its end, whatever ended it."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
