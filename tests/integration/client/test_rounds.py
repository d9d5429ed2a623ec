"""Whole rounds over gRPC: sums are exact, and whatever goes wrong on the way is survived."""

import asyncio
import threading
import time
from datetime import timedelta

import numpy as np
import pytest
from finsecure.aggregation.v1 import tasks_pb2
from finsecure.aggregation.v1.participation_pb2 import (
    AdvertiseKeysRequest,
    SubmitInputRequest,
    Survivors,
)
from finsecure_client import Evaluation, TrainedModel, connect
from finsecure_crypto.errors import AuthenticationError, StateError
from finsecure_crypto.federation import RoundKind
from finsecure_crypto.secagg.phases import Phase
from finsecure_rpc.identity_store import IdentityStore

from tests.support.client import TASK, ConstantTrainer
from tests.support.client_federation import running_federation
from tests.support.pki import utc_now

BANKS = ["bank-a", "bank-b", "bank-c", "bank-d"]


def start_all(federation, **trainers):
    for bank in BANKS:
        federation.start(bank, trainers.get(bank.replace("-", "_")))


def expected_counts(sums, clients, examples=100):
    assert sums["weight"].tolist() == [examples * clients]
    assert sums["examples"].tolist() == [examples * clients, 10 * clients, 4 * clients]
    assert sums["loss_q16"].tolist() == [round(6.5 * 2**16) * clients]
    assert int(sums["scores"].sum()) == 10 * clients


async def test_round_sums_what_all_have_computed(federation):
    start_all(federation)
    await federation.aggregator.available(4)
    sums = await federation.aggregator.run_round(BANKS)
    expected_counts(sums, 4)
    # Each moves by 0.25, weighted with 100 / 1000, in steps of 2 · 2 / (2^16 - 2).
    steps = 4 * 0.25 * 0.1 / (2 / (2**15 - 1))
    assert np.allclose(sums["update"], steps, atol=4)
    federation.aggregator.task.state = tasks_pb2.TASK_STATE_COMPLETED
    done = await asyncio.gather(*federation.tasks.values())
    assert [status.state for status in done] == ["completed"] * 4
    assert all(o.completed for seen in federation.outcomes.values() for o in seen)
    assert not federation.aggregator.declined


async def test_statistics_round(tmp_path):
    async with running_federation(tmp_path, features__standardise=True) as federation:
        for bank in BANKS:
            federation.start(bank)
        await federation.aggregator.available(4)
        sums = await federation.aggregator.run_round(BANKS, number=0, kind=RoundKind.STATISTICS)
        assert sums["weight"].tolist() == [400]
        found = sums["moments"] / (2**31 - 1) * 1000 / 400
        assert found == pytest.approx([0.5, 0.5, 0.25, 0.25], abs=1e-6)


@pytest.mark.parametrize("standardise", [True, False])
async def test_model_that_does_not_fit_the_schema_is_declined(tmp_path, standardise):
    async with running_federation(tmp_path, features__standardise=standardise) as federation:
        tensors = {"weight": np.zeros((1, 4), np.float32), "bias": np.zeros(1, np.float32)}
        if not standardise:
            tensors |= {f"standardise.{k}": np.ones(2, np.float32) for k in ("mean", "scale")}
        federation.aggregator.publish_model(tensors)
        for bank in BANKS:
            federation.start(bank)
        await federation.aggregator.available(4)
        with pytest.raises(StateError, match="TOO_FEW_INPUTS"):
            await federation.aggregator.run_round(BANKS)
        assert set(federation.aggregator.declined.values()) == {"MODEL_NOT_STANDARDISED"}


@pytest.mark.parametrize("phase", list(Phase)[:5])
async def test_a_lost_client_does_not_spoil_the_round(federation, phase):
    start_all(federation)
    await federation.aggregator.available(4)
    federation.aggregator.phase_s = 3
    lost = asyncio.Event()

    def lose(opened):
        if opened is phase:
            federation.tasks["bank-d"].cancel()
            lost.set()

    # A client that goes away says so; this one is cut off.
    federation.aggregator.twist = lambda client, instruction: (
        None if lost.is_set() and client == "bank-d" else instruction
    )
    sums = await federation.aggregator.run_round(BANKS, on_phase=lose)
    survivors = 4 if phase in (Phase.CONFIRM_SURVIVORS, Phase.REVEAL_SHARES) else 3
    expected_counts(sums, survivors)


async def test_stopping_client_says_so(federation):
    start_all(federation)
    await federation.aggregator.available(4)

    def stop(opened):
        if opened is Phase.SHARE_KEYS:
            federation.tasks["bank-d"].cancel()

    sums = await federation.aggregator.run_round(BANKS, on_phase=stop)
    expected_counts(sums, 3)
    assert federation.aggregator.declined == {(f"{TASK}/rounds/1-1", "bank-d"): "CLIENT_STOPPING"}


async def test_upload_resumes_where_it_was_cut(tmp_path):
    big = [tasks_pb2.TensorSpec(name="weight", shape=[1, 1_000_000])]
    async with running_federation(tmp_path) as federation:
        del federation.aggregator.task.spec.model.tensors[:]
        federation.aggregator.task.spec.model.tensors.extend(big)
        federation.aggregator.publish_model({"weight": np.zeros((1, 1_000_000), np.float32)})
        federation.aggregator.model_chunk = 1 << 20
        federation.aggregator.cut_uploads = {"bank-a": 1, "bank-b": 2}
        for bank in BANKS[:3]:
            federation.start(bank)
        await federation.aggregator.available(3)
        sums = await federation.aggregator.run_round(BANKS[:3])
        expected_counts(sums, 3)
        offsets = [
            SubmitInputRequest.FromString(raw).chunk.offset
            for method, client, raw in federation.aggregator.received
            if method == "SubmitInput" and client == "bank-b"
        ]
        assert sorted(set(offsets)) == [number << 20 for number in range(3)]
        assert not federation.aggregator.cut_uploads


async def test_calls_are_repeated_until_the_server_is_back(federation):
    start_all(federation)
    await federation.aggregator.available(4)
    federation.aggregator.refuse_calls = 20
    expected_counts(await federation.aggregator.run_round(BANKS), 4)


@pytest.mark.parametrize("phase", list(Phase)[:5])
async def test_streams_break_and_instructions_come_again(federation, phase):
    start_all(federation)
    await federation.aggregator.available(4)

    def drop(opened):
        if opened is phase:
            federation.aggregator.drop_streams()

    sums = await federation.aggregator.run_round(BANKS, on_phase=drop)
    expected_counts(sums, 4)
    # What a client repeated was, byte for byte, what it had sent before.
    sent = {}
    for method, client, raw in federation.aggregator.received:
        if method in ("AdvertiseKeys", "ShareKeys", "ConfirmSurvivors", "RevealShares"):
            assert sent.setdefault((method, client), raw) == raw


STEPS = {"AdvertiseKeys", "ShareKeys", "ConfirmSurvivors"}


async def test_repeated_instruction_gets_the_same_bytes(federation):
    start_all(federation)
    await federation.aggregator.available(4)
    fake, note, seen = federation.aggregator, federation.aggregator._note, set()

    def again(method, request):
        client = note(method, request)
        if client == "bank-a" and method in STEPS and method not in seen:
            seen.add(method)  # answered once, and asked again
            for queue in fake._streams[client]:
                queue.put_nowait(fake._standing[client])
        return client

    fake._note = again
    expected_counts(await fake.run_round(BANKS), 4)
    assert seen == STEPS
    by_method = {}
    for method, client, raw in federation.aggregator.received:
        if client == "bank-a" and method in STEPS:
            by_method.setdefault(method, []).append(raw)
    assert all(len(raws) == 2 and len(set(raws)) == 1 for raws in by_method.values())


async def test_restarted_client_declines_and_joins_the_next_round(federation):
    start_all(federation)
    await federation.aggregator.available(4)
    federation.aggregator.phase_s = 4
    trained = asyncio.Event()
    restarted = []

    def restart(opened):
        if opened is Phase.SUBMIT_MASKED_INPUT:
            task = federation.tasks.pop("bank-d")
            task.cancel()
            restarted.append(asyncio.create_task(again(task)))

    async def again(task):
        await asyncio.gather(task, return_exceptions=True)
        # As after a kill: the server has not heard that the client went away.
        federation.aggregator.declined.clear()
        federation.start("bank-d")
        trained.set()

    sums = await federation.aggregator.run_round(BANKS, on_phase=restart)
    expected_counts(sums, 3)
    await trained.wait()
    await federation.aggregator.available(4)
    expected_counts(await federation.aggregator.run_round(BANKS, number=2), 4)


async def test_instruction_of_an_unknown_round_is_declined(federation):
    federation.start("bank-a")
    await federation.aggregator.available(1)
    federation.aggregator._round = f"{TASK}/rounds/1-1"
    survivors = Survivors(survivors=b"\x0f")
    federation.aggregator.tell(
        "bank-a", federation.aggregator._instruction(confirm_survivors=survivors)
    )
    await federation.aggregator._until(lambda: bool(federation.aggregator.declined))
    assert federation.aggregator.declined == {(f"{TASK}/rounds/1-1", "bank-a"): "RESTARTED"}


async def test_renewal_in_the_middle_of_a_round(federation):
    start_all(federation)
    await federation.aggregator.available(4)
    renewed = []

    def renew(opened):
        if opened is Phase.SUBMIT_MASKED_INPUT:
            store = IdentityStore(federation.folder / "bank-a" / "identity")
            before = store.current()
            federation.pki.enrol(store.folder, "client", "bank-a")
            renewed.append((before, IdentityStore(store.folder).current()))

    expected_counts(await federation.aggregator.run_round(BANKS, on_phase=renew), 4)
    before, after = renewed[0]
    assert after.generation == before.generation + 1
    assert after.signing_key.public != before.signing_key.public
    # The next round is signed with the new key, over a connection with the new certificate.
    expected_counts(await federation.aggregator.run_round(BANKS, number=2), 4)
    last = [
        AdvertiseKeysRequest.FromString(raw)
        for method, client, raw in federation.aggregator.received
        if method == "AdvertiseKeys" and client == "bank-a"
    ][-1]
    assert last.advertisement.certificate == after.signing_certificate


async def test_training_of_an_aborted_round_is_cancelled(federation):
    stopped = threading.Event()

    def wait(assignment):
        while True:
            time.sleep(0.01)
            try:
                assignment.check_wanted()
            except StateError:
                stopped.set()
                raise

    start_all(federation, bank_d=ConstantTrainer(hook=wait))
    await federation.aggregator.available(4)
    federation.aggregator.phase_s = 2
    expected_counts(await federation.aggregator.run_round(BANKS), 3)
    assert await asyncio.to_thread(stopped.wait, 5)
    assert (f"{TASK}/rounds/1-1", "bank-d") not in federation.aggregator.declined


@pytest.mark.parametrize(
    "trainer",
    [
        ConstantTrainer(step=float("nan")),
        ConstantTrainer(step=float("inf")),
        ConstantTrainer(examples=0),
        ConstantTrainer(hook=lambda assignment: 1 / 0),
    ],
)
async def test_failing_trainer_leaves_without_telling_why(federation, trainer):
    start_all(federation, bank_d=trainer)
    await federation.aggregator.available(4)
    expected_counts(await federation.aggregator.run_round(BANKS), 3)
    assert federation.aggregator.declined == {(f"{TASK}/rounds/1-1", "bank-d"): "LOCAL_FAILURE"}
    assert not federation.tasks["bank-d"].done()


async def test_submit_a_result_computed_elsewhere(federation):
    for bank in BANKS[:3]:
        federation.start(bank)
    async with connect(federation.config("bank-d")) as client:
        base = await client.model("credit")
        trained = TrainedModel({k: v + np.float32(0.25) for k, v in base.tensors.items()}, 100)
        evaluation = Evaluation.of(np.array([0.1, 0.9]), np.array([False, True]), 1.0, 8)
        submitting = asyncio.create_task(client.submit("credit", base, trained, evaluation))
        await federation.aggregator.available(4)
        sums = await federation.aggregator.run_round(BANKS)
        assert sums["examples"].tolist() == [400, 32, 14]
        assert (await submitting).completed
        federation.aggregator.publish_model(dict(base.tensors))
        with pytest.raises(StateError, match="MODEL_SUPERSEDED"):
            await client.submit("credit", base, trained, evaluation)


async def test_certificates_renew_themselves_while_a_client_takes_part(federation):
    past = utc_now() - timedelta(hours=2)
    soon = utc_now() + timedelta(minutes=1)
    store = federation.pki.enrol(
        federation.folder / "bank-a" / "identity",
        "client",
        "bank-a",
        not_before=past,
        not_after=soon,
    )
    start_all(federation)
    await federation.aggregator.available(4)
    async with asyncio.timeout(10):
        while store.current().generation == 1:  # noqa: ASYNC110  # the renewal has no event
            await asyncio.sleep(0.05)
    assert store.current().certified.not_after > soon
    expected_counts(await federation.aggregator.run_round(BANKS), 4)


async def test_expired_client_is_told_to_enrol_anew(federation):
    past = utc_now() - timedelta(hours=2)
    federation.pki.enrol(
        federation.folder / "bank-a" / "identity",
        "client",
        "bank-a",
        not_before=past,
        not_after=past + timedelta(hours=1),
    )
    with pytest.raises(AuthenticationError, match="CERTIFICATE_EXPIRED"):
        async with connect(federation.config("bank-a")):
            pass
