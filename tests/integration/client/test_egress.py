"""The manifest against the wire: what the servers received is what the client wrote down."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from finsecure.aggregation.v1 import models_pb2, participation_pb2, tasks_pb2
from finsecure_client import connect, egress
from finsecure_client.config import EgressSettings
from finsecure_crypto.errors import InternalError
from finsecure_crypto.federation import RoundKind
from google.protobuf.message import Message

from tests.support.client_federation import running_federation

BANKS = ["bank-a", "bank-b", "bank-c"]


def request_type(method):
    for module in (participation_pb2, tasks_pb2, models_pb2):
        found = getattr(module, f"{method}Request", None)
        if found is not None:
            return found
    raise AssertionError(method)


def leaves(message, path=""):
    """Every scalar on the wire, by another way than the manifest's own."""
    for name in message.DESCRIPTOR.fields_by_name:
        value = getattr(message, name)
        items = value if hasattr(value, "__len__") and not isinstance(value, str | bytes) else None
        if items is not None:
            for index, item in enumerate(items):
                where = f"{path}{name}[{index}]"
                if isinstance(item, Message):
                    yield from leaves(item, f"{where}.")
                else:
                    yield where, item
        elif isinstance(value, Message):
            if message.HasField(name):
                yield from leaves(value, f"{path}{name}.")
        elif value:
            yield f"{path}{name}", value


async def test_every_field_that_arrived_is_in_the_manifest(tmp_path):
    async with running_federation(tmp_path, features__standardise=True) as federation:
        fake = federation.aggregator
        for bank in BANKS:
            federation.start(bank)
        await fake.available(3)
        fake.cut_uploads = {"bank-a": 1}
        await fake.run_round(BANKS, number=0, kind=RoundKind.STATISTICS)
        fake.task.state = tasks_pb2.TASK_STATE_COMPLETED
        for bank in BANKS:
            await federation.tasks[bank]
        arrived = Counter()
        for method, client, raw in fake.received:
            if client == "bank-a":
                for path, value in leaves(request_type(method).FromString(raw)):
                    content = value if isinstance(value, bytes) else str(value).encode()
                    digest = hashlib.sha256(content).hexdigest()
                    arrived[method, path, len(content), digest] += 1
        entries = list(egress.read(tmp_path / "bank-a" / "egress.jsonl"))
        written = Counter(
            (entry.method.rpartition("/")[2], entry.path, entry.length, entry.sha256)
            for entry in entries
            if entry.destination == "aggregator"
        )
        assert arrived == written
        assert {"AdvertiseKeys", "ShareKeys", "SubmitInput", "RevealShares"} <= {
            method for method, *_ in arrived
        }
        kinds = {e.kind for e in entries if e.round.endswith("/rounds/0-1")}
        assert "masked or encrypted model update" in kinds
        masked = [e for e in entries if e.path == "chunk.content"]
        header = next(e for e in entries if e.path == "header.sha256")
        raw = next(
            participation_pb2.SubmitInputRequest.FromString(raw).header.sha256
            for method, client, raw in fake.received
            if method == "SubmitInput" and client == "bank-a"
        )
        assert header.sha256 == hashlib.sha256(raw).hexdigest()
        assert all(entry.sha256 == raw.hex() for entry in masked)  # the vector fits into one chunk


async def test_nothing_is_sent_that_cannot_be_written_down(tmp_path):
    async with running_federation(tmp_path) as federation:
        config = federation.config("bank-a")
        full = config.model_copy(update={"egress": EgressSettings(manifest=Path("/dev/full"))})
        with pytest.raises(InternalError, match="EGRESS_NOT_RECORDED"):
            async with connect(full) as client:
                await client.task("credit")
        assert federation.aggregator.received == []
