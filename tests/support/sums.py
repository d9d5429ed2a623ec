"""Audited sums in one process: the aggregator's service with its store, and trustees that may fail.

>>> bench = await Bench(tmp_path, clock).begin()
>>> await bench.create()
>>> await bench.contribute("bank-a", {"shop": 3})
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from finsecure.aggregation.v1 import sums_pb2
from finsecure_aggregator import schema
from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.clock import Clock
from finsecure_aggregator.names import Names
from finsecure_aggregator.store import Store
from finsecure_aggregator.sums import convert
from finsecure_aggregator.sums.desk import AuditedSums
from finsecure_aggregator.sums.plan import SumRules
from finsecure_aggregator.sums.runner import Surroundings
from finsecure_aggregator.sums.service import AuditedSumService
from finsecure_aggregator.watchers import Changes
from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.encoding import rounding_generator
from finsecure_crypto.errors import AuthenticationError
from finsecure_crypto.homomorphic.decryption import EncryptedContext
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.signing import SigningKey
from finsecure_rpc.database import open_database
from finsecure_rpc.peer import set_peer
from google.protobuf.duration_pb2 import Duration

from tests.support.encrypted import KEY_NAME, desk, keys
from tests.support.published import FixedMinima

NAME = "federations/lending/sums/exposure"
LABELS = ("shop", "mill", "bank")
BANKS = ("bank-a", "bank-b", "bank-c")
VALUES = {
    "bank-a": {"shop": 1, "mill": 2**40},
    "bank-b": {"shop": 20, "bank": 7},
    "bank-c": {"mill": 2**40, "bank": 500},
}


def totals(clients: Sequence[str] = BANKS) -> list[int]:
    """The plain sum."""
    return [sum(VALUES[client].get(label, 0) for client in clients) for label in LABELS]


def spec(**changes: Any) -> sums_pb2.SumSpec:
    """A small valid specification."""
    return sums_pb2.SumSpec(
        **{
            "description": "exposure per merchant",
            "labels": LABELS,
            "maximum": 2**41,
            "minimum_contributors": 3,
            "maximum_contributors": 4,
            "encryption_key": KEY_NAME,
            "collecting": Duration(seconds=3600),
            "opening": Duration(seconds=600),
        }
        | changes
    )


def request_id() -> str:
    return str(uuid4())


@cache
def contributed(client: str, binding: EncryptedContext, fresh: int = 0) -> bytes:
    """What a client would contribute; another `fresh` gives other ciphertexts of the same."""
    key, _ = keys(Mode.PAILLIER)
    terms = convert.plan(NAME, convert.spec_bytes(spec())).terms
    values = terms.values(VALUES.get(client, {}))
    bound = binding.input_binding(client)
    return b"".join(key.encrypt_input(terms.layout(), values, rounding_generator(), bound))


class Members:
    """Stands in for the aggregator's verifier: a certificate is its client's name."""

    def __init__(self) -> None:
        self.keys = {bank: SigningKey.generate() for bank in (*BANKS, "bank-d", "bank-e")}
        self.refused: dict[str, str] = {}

    def verify(self, client: str, certificate: bytes) -> bytes:
        reason = self.refused.get(client)
        if certificate != client.encode():
            reason = "CERTIFICATE_UNTRUSTED"
        if reason is not None:
            raise AuthenticationError(reason, "not accepted", culprit=client)
        return self.keys[client].public


class Bench:
    """An aggregator's audited sums on a folder that survives it."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        conducts: Mapping[int, str] | None = None,
        *,
        members: Members | None = None,
        minimum: int = 3,
        module: str = "finsecure_aggregator.cipher_worker",
        database: str | None = None,
    ) -> None:
        self.folder, self.clock = folder, clock
        self.members = members or Members()
        self.desk = desk(Mode.PAILLIER, folder, conducts or {}, module=module)
        self.database = open_database(database or f"sqlite:///{folder}/aggregator.db")
        self.database.run_sync(schema.prepare)
        self.blobs = Blobs(folder / "blobs")
        self.changes = Changes()
        self.minima = FixedMinima()
        self.sums = AuditedSums(
            Surroundings(
                store=Store(self.database),
                blobs=self.blobs,
                clock=clock,
                changes=self.changes,
                verifier=self.members,  # type: ignore[arg-type]
                encryption=self.desk,
                rules=SumRules(minimum, 2),
                minima=self.minima,
                adding=asyncio.Semaphore(2),
            )
        )
        self.service = AuditedSumService(Names("lending"), self.sums)

    async def begin(self) -> "Bench":
        await self.sums.start()
        return self

    async def close(self) -> None:
        """As a kill would: nothing is tidied up but processes and files of this one."""
        await self.sums.stop()
        self.desk.workers.close()
        self.database.close()

    async def call(self, method: str, request: Any, caller: str = "operator/alice") -> Any:
        """Call the service as somebody."""
        role, id_ = caller.split("/")
        domain = "lending.test" if Role(role).federated else "test"
        set_peer(SimpleNamespace(spiffe_id=SpiffeId(domain, Role(role), id_), id=id_))  # type: ignore[arg-type]
        return await getattr(self.service, method)(request, None)

    async def create(
        self, caller: str = "operator/alice", name: str = NAME, **changes: Any
    ) -> sums_pb2.Sum:
        request = sums_pb2.CreateSumRequest(
            name=name, spec=spec(**changes), request_id=request_id()
        )
        return (await self.call("CreateSum", request, caller)).sum

    async def get(self) -> sums_pb2.Sum:
        return (await self.call("GetSum", sums_pb2.GetSumRequest(name=NAME))).sum

    async def binding(self) -> EncryptedContext:
        """What contributions to the present sum are bound to."""
        sum_ = await self.get()
        plan = convert.plan(NAME, convert.spec_bytes(sum_.spec))
        return plan.terms.binding(NAME, plan.spec, sum_.nonce, sum_.key_digest)

    async def input(self, client: str, fresh: int = 0) -> bytes:
        """A client's ciphertexts and proof for the present sum."""
        return contributed(client, await self.binding(), fresh)

    async def contribution(
        self, client: str, content: bytes | None = None, *, signer: str | None = None
    ) -> sums_pb2.ContributeRequest:
        """What a client would send; another `signer` forges it."""
        content = await self.input(client) if content is None else content
        binding = await self.binding()
        sha256 = hashlib.sha256(content).digest()
        key = self.members.keys[signer or client]
        return sums_pb2.ContributeRequest(
            sum=NAME,
            ciphertexts=content,
            signature=key.sign(*binding.input_statement(len(content), sha256)),
            certificate=client.encode(),
        )

    async def contribute(self, client: str, content: bytes | None = None) -> bytes:
        request = await self.contribution(client, content)
        return (await self.call("Contribute", request, f"client/{client}")).sha256

    async def open(self, caller: str = "operator/alice") -> sums_pb2.Sum:
        request = sums_pb2.OpenSumRequest(name=NAME, request_id=request_id())
        return (await self.call("OpenSum", request, caller)).sum

    async def cancel(self, caller: str = "operator/alice") -> sums_pb2.Sum:
        request = sums_pb2.CancelSumRequest(name=NAME, request_id=request_id())
        return (await self.call("CancelSum", request, caller)).sum

    async def ended(self) -> sums_pb2.Sum:
        """Wait until the sum has ended."""
        ends = {sums_pb2.SUM_STATE_OPENED, sums_pb2.SUM_STATE_CANCELLED, sums_pb2.SUM_STATE_FAILED}
        async with asyncio.timeout(90):
            with self.changes.watch((NAME,)) as changed:
                while (sum_ := await self.get()).state not in ends:
                    await changed.wait()
                    changed.clear()
        return sum_

    async def finished(self) -> None:
        """Wait until no sum is worked on any more."""
        async with asyncio.timeout(30):
            await asyncio.gather(*(each._task for each in self.sums._runners.values()))
