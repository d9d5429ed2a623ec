"""What a client contributes appears nowhere outside it: not on the wire, not on the server disk.

Real clients (the SDK, as the daemon uses it) against a real aggregator process. Every message is
captured before TLS encrypts it, and the aggregator's whole folder is read while masked or encrypted
inputs lie in it and again at the end.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finsecure.aggregation.v1 import tasks_pb2
from finsecure_client import sdk
from finsecure_client.config import ClientConfig, ClientSettings, EgressSettings, PolicySettings
from finsecure_client.egress import Manifest
from finsecure_client.trainer import Assignment, Evaluation, TrainedModel
from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.federation import flatten, training_result
from finsecure_keyservice.trustee.opening import Openings
from google.protobuf.internal.encoder import _VarintBytes
from safetensors.numpy import load

from tests.support.encrypted_federation import encrypted_federation, encrypted_spec
from tests.support.federation import FEDERATION, Federation, task_spec, terms_of
from tests.support.trustees import key

SHAPE = (64, 48)


@dataclass
class DistinctiveTrainer:
    """Contributes values that could not turn up anywhere by accident."""

    number: int
    secrets: dict[str, bytes] = field(default_factory=dict)

    def prepare(self, task: Any) -> None: ...

    def numeric_features(self, task: Any) -> Any:
        raise AssertionError("this task has no statistics round")

    def train(self, assignment: Assignment) -> TrainedModel:
        rng = np.random.default_rng(self.number)
        moved = {
            name: array + rng.normal(0, 0.05, array.shape).astype(np.float32)
            for name, array in assignment.model.tensors.items()
        }
        examples = 987_654_321 + self.number * 1_234_567
        terms = assignment.task.terms
        update = flatten(terms, moved) - flatten(terms, assignment.model.tensors)
        trained = flatten(terms, moved).astype(np.float32).tobytes()
        self.secrets |= {
            **{f"trained pair {i}": trained[i : i + 8] for i in range(0, len(trained) - 8, 4)},
            **{f"update {i}": value.tobytes() for i, value in enumerate(update.astype("<f8"))},
            "examples as word": examples.to_bytes(8, "little"),
            "examples as varint": _VarintBytes(examples),
            "examples as text": str(examples).encode(),
        }
        return TrainedModel(moved, examples)

    def evaluate(self, assignment: Assignment) -> Evaluation:
        rng = np.random.default_rng(100 + self.number)
        labels = rng.random(4000) < 0.3
        scores = rng.random(4000).astype(np.float32)
        loss = 1234.5678 + self.number / 7
        self.secrets |= {
            "loss as double": np.float64(loss).tobytes(),
            "loss as word": round(loss * 2**16).to_bytes(8, "little"),
            "loss as varint": _VarintBytes(round(loss * 2**16)),
        }
        return Evaluation.of(scores, labels, loss, assignment.task.terms.score_bins)


class Wiretap(Manifest):
    """The client's own egress hook, which also keeps the bytes, and looks at the server's disk."""

    messages: list[bytes]
    disk: dict[str, bytes]
    folder: Path

    def recorder(self, peer: str) -> Any:
        record = super().recorder(peer)

        def tap(method: str, message: Any) -> None:
            record(method, message)
            self.messages.append(message.SerializeToString())
            if method.rpartition("/")[2] in ("ConfirmSurvivors", "GetUploadStatus"):
                self.disk.update(contents(self.folder))

        return tap


def contents(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            try:
                found[f"{path.relative_to(folder)} {path.stat().st_mtime_ns}"] = path.read_bytes()
            except FileNotFoundError:
                continue  # an input whose round has just ended
    return found


def find(patterns: dict[str, bytes], haystacks: dict[str, bytes]) -> list[str]:
    """Which patterns occur where; those of eight bytes, which are many, all in one pass."""
    words = {int.from_bytes(p, "little"): name for name, p in patterns.items() if len(p) == 8}
    wanted = np.array(sorted(words), np.uint64)
    others = {name: p for name, p in patterns.items() if len(p) != 8}
    found = []
    for place, data in haystacks.items():
        found += [f"{name} in {place}" for name, pattern in others.items() if pattern in data]
        for shift in range(8):
            run = np.frombuffer(
                data, "<u8", offset=min(shift, len(data)), count=max(0, len(data) - shift) // 8
            )
            found += [f"{words[int(w)]} in {place}" for w in np.intersect1d(run, wanted)]
    return found


@pytest.mark.parametrize("protection", ["masks", "paillier"])
async def test_nothing_of_one_client_is_on_the_wire_or_on_the_servers_disk(
    tmp_path, monkeypatch, protection
):
    masked = protection == "masks"
    make = task_spec if masked else encrypted_spec
    spec = make(tensors={"weight": SHAPE}, rounds=1, weight_cap=2**30, score_bins=32)
    encoded: list[Any] = []
    encode = VectorLayout.encode

    def keeping(self: VectorLayout, *arguments: Any) -> Any:
        words = encode(self, *arguments)
        encoded.append((self, words.copy()))
        return words

    monkeypatch.setattr(VectorLayout, "encode", keeping)
    monkeypatch.setattr(sdk, "Manifest", Wiretap)
    server, admit = tmp_path / "aggregator", Openings.admit

    async def looking(self: Openings, *arguments: Any) -> Any:
        # The aggregator keeps all inputs until trustees have opened their sum.
        Wiretap.disk.update(contents(server))
        return await admit(self, *arguments)

    monkeypatch.setattr(Openings, "admit", looking)
    federation = Federation(tmp_path)
    async with federation if masked else encrypted_federation(federation):
        Wiretap.messages, Wiretap.disk, Wiretap.folder = [], {}, server
        await federation.create_task("credit", spec)
        trainers = {bank: DistinctiveTrainer(i) for i, bank in enumerate(federation.banks)}

        async def take_part(bank: str) -> None:
            federation.client(bank, "credit")  # enrols the bank
            config = ClientConfig(
                client=ClientSettings(
                    federation=FEDERATION,
                    identity_dir=tmp_path / bank,
                    root=tmp_path / "root.pem",
                    state_dir=tmp_path / f"{bank}-state",
                    keyservice=f"127.0.0.1:{federation.key_service.ports[0]}",
                    keyservice_enrol=f"127.0.0.1:{federation.key_service.ports[0]}",
                    aggregator=federation.address,
                    poll_interval_s=0.1,
                ),
                policy=PolicySettings(
                    tasks=("*",),
                    protections=(protection,),
                    trustees=() if masked else ("trustee-1", "trustee-2", "trustee-3"),
                    dealt_keys=not masked,
                ),
                egress=EgressSettings(manifest=tmp_path / f"{bank}.jsonl"),
            )
            async with sdk.connect(config) as client:
                await client.join("credit", trainers[bank])

        async with asyncio.timeout(90):
            await asyncio.gather(*(take_part(bank) for bank in federation.banks))
        task = await federation.task("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED
        Wiretap.disk.update(contents(server))

        secrets = {
            f"{bank}: {name}": pattern
            for bank, trainer in trainers.items()
            for name, pattern in trainer.secrets.items()
        }
        assert len(encoded) == len(federation.banks)
        for number, (_, words) in enumerate(encoded):
            # A word of few bits, such as a small count, says nothing by turning up elsewhere.
            telling = words[words > 2**24].astype("<u8")
            assert telling.size > SHAPE[0] * SHAPE[1] // 4
            secrets |= {f"encoded {number}.{i}": w.tobytes() for i, w in enumerate(telling)}

        everything = dict(Wiretap.disk)
        everything["wire"] = b"\0".join(Wiretap.messages)
        plain = encoded[0][1].astype("<u8").tobytes()
        size = len(plain) if masked else key().shape(encoded[0][0]).input_bytes
        sizes = [len(data) for place, data in Wiretap.disk.items() if "inputs" in place]
        assert sizes.count(size) >= len(federation.banks)  # the inputs of all were seen
        assert len(everything["wire"]) > len(federation.banks) * size
        assert find(secrets, {"control": plain})  # the search finds what is there
        assert find(secrets, everything) == []

        # And what was hidden adds up to exactly what the new model holds.
        layout = encoded[0][0]
        total = np.sum([words for _, words in encoded], axis=0, dtype=np.uint64)
        result = training_result(terms_of(spec), layout.decode(total, len(encoded)))
        base = load(await federation.download("credit", 0))["weight"].astype(np.float64).ravel()
        made = load(await federation.download("credit", 1))["weight"].ravel()
        np.testing.assert_array_equal(made, (base + result.mean_update).astype(np.float32))


@pytest.mark.parametrize("place", ["wire", "disk"])
def test_the_search_would_see_a_leak(place):
    pattern = {"secret": np.float64(0.123456789).tobytes()}
    assert find(pattern, {place: b"xx" + pattern["secret"] + b"yy"}) == [f"secret in {place}"]
