"""Encrypted rounds without a network: sums, hostile inputs, dying workers, failing trustees."""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from finsecure_aggregator import ciphers
from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.ciphers import CipherWorkers
from finsecure_aggregator.clock import SystemClock
from finsecure_aggregator.encrypted_round import EncryptedRound
from finsecure_aggregator.examination import examine
from finsecure_aggregator.records import RoundKey, RoundState
from finsecure_crypto.encoding import CountSection, RealSection, VectorLayout, rounding_generator
from finsecure_crypto.errors import FinSecureError, UnavailableError
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.rounds import EncryptedRoundParameters
from finsecure_crypto.signing import SigningKey

from tests.support.encrypted import KEY_NAME, add, desk, keys, signed

BANKS = ("bank-a", "bank-b", "bank-c")
SIGNERS = {bank: SigningKey.generate() for bank in BANKS}
LAYOUT = VectorLayout((CountSection("weight", 1, 1000), RealSection("update", 70, 0.5, 16)), 4)
KEY = RoundKey("federations/lending/tasks/credit", 1, 1)


def parameters(mode):
    key, _ = keys(mode)
    return EncryptedRoundParameters(
        federation="lending",
        task="credit",
        round_number=1,
        attempt=1,
        attempt_nonce=bytes(32),
        model_digest=b"m" * 32,
        task_digest=b"t" * 32,
        minimum_cohort=2,
        layout=LAYOUT,
        key_name=KEY_NAME,
        key_digest=key.digest(),
    )


def values(bank):
    rng = np.random.default_rng(BANKS.index(bank))
    return {"weight": np.array([100], np.uint64), "update": rng.uniform(-0.5, 0.5, 70)}


def rounding(bank):
    return rounding_generator(lambda length: bank.encode().ljust(length, b".")[:length])


def plain_sum(banks):
    words = [LAYOUT.encode(values(bank), rounding(bank)) for bank in banks]
    return LAYOUT.decode(sum(words[1:], words[0]), len(words))


class Bench:
    """One round with its folder, and what its clients would do."""

    def __init__(self, mode, folder, conducts=None, **keywords):
        self.mode = mode
        self.parameters = parameters(mode)
        self.blobs = Blobs(folder / "blobs")
        self.desk = desk(mode, folder, conducts or {}, **keywords)
        self.key = self.desk.keys.held

    async def open(self):
        shape = await self.desk.workers.shape(self.key.file, LAYOUT)
        record = SimpleNamespace(key=KEY, invited=BANKS)
        self.round = EncryptedRound(
            SimpleNamespace(invitation=SimpleNamespace(round=record)),
            self.parameters,
            lambda client, certificate: SIGNERS[client].public,
            self.blobs,
            self.desk,
            self.key,
            shape,
            SystemClock(),
        )
        return self.round

    def input(self, bank, client=None, **changes):
        """A bank's ciphertexts and proof, bound to a client and this round or another."""
        key, _ = keys(self.mode)
        binding = replace(self.parameters, **changes).binding().input_binding(client or bank)
        return b"".join(key.encrypt_input(LAYOUT, values(bank), rounding(bank), binding))

    async def submit(self, bank, content=None):
        if content is None:
            content = self.input(bank)
        path = self.blobs.input_path(KEY, bank)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        await self.round.examine_input(bank)
        assert self.round.accept(bank, signed(self.parameters, content, SIGNERS[bank], bank))
        await self.round.add_inputs([bank])

    async def sum(self, wait_s=60):
        self.round.turn(RoundState.SUBMIT_INPUT)
        deadline = SystemClock().now_ns() + round(wait_s * 1e9)
        return await self.round.sum(deadline)

    async def close(self):
        await self.round.close()
        self.desk.workers.close()


@pytest.fixture
async def bench(tmp_path):
    opened = []

    async def make(mode=Mode.PAILLIER, conducts=None, **keywords):
        made = Bench(mode, tmp_path, conducts, **keywords)
        opened.append(made)
        await made.open()
        return made

    yield make
    for each in opened:
        await each.close()


@pytest.mark.parametrize(
    ("mode", "banks"), [*((mode, BANKS) for mode in Mode), (Mode.PAILLIER, BANKS[1:])]
)
async def test_every_mode_gives_the_sum_of_masks(bench, mode, banks):
    one = await bench(mode)
    for bank in banks:
        await one.submit(bank)
    found, expected = await one.sum(), plain_sum(banks)
    assert found["weight"].tolist() == expected["weight"].tolist()
    if mode is Mode.CKKS:
        key, _ = keys(mode)
        bound = key.error_bound(LAYOUT) * 0.5
        # The stochastic rounding of three masked inputs on top.
        np.testing.assert_allclose(
            found["update"], expected["update"], atol=bound + 3 * 2 * 0.5 / 2**15
        )
    else:
        assert found["update"].tobytes() == expected["update"].tobytes()
    assert [answer.reason for answer in one.round.trustees()] == ["", ""]


FAULTS = {
    "down": "TRUSTEE_UNREACHED",
    "slow": "TRUSTEE_SLOW",
    "refuses": "ALREADY_OPENED",
    "lies": "PARTIAL_INVALID",
    "garbage": "PARTIAL_INVALID",
}


@pytest.mark.parametrize(
    ("mode", "conduct"),
    [
        *((Mode.PAILLIER, conduct) for conduct in FAULTS),
        (Mode.BGV, "lies"),
        pytest.param(Mode.BGV, "garbage", marks=pytest.mark.slow),
    ],
)
async def test_one_bad_trustee_stops_nothing(bench, mode, conduct):
    one = await bench(mode, {1: conduct}, patience_s=0.5 if conduct == "slow" else 60)
    for bank in BANKS:
        await one.submit(bank)
    found = await one.sum()
    assert found["update"].tobytes() == plain_sum(BANKS)["update"].tobytes()
    said = {answer.trustee: answer.reason for answer in one.round.trustees()}
    assert said == {"north": FAULTS[conduct], "south": "", "west": ""}


async def test_a_contribution_that_trustees_refuse_is_left_out_and_its_client_named(bench):
    one = await bench(Mode.PAILLIER, {2: "accuses:bank-b", 3: "accuses:bank-b"})
    for bank in BANKS:
        await one.submit(bank)
    found = await one.sum()
    expected = plain_sum(("bank-a", "bank-c"))
    assert found["update"].tobytes() == expected["update"].tobytes()
    assert list(one.round.blamed) == [("bank-b", "CONTRIBUTION_REUSED")]


async def test_without_a_refused_contribution_enough_have_to_be_left(bench):
    one = await bench(Mode.PAILLIER, dict.fromkeys((1, 2, 3), "accuses:bank-b"))
    for bank in BANKS[:2]:
        await one.submit(bank)
    with pytest.raises(FinSecureError, match="TOO_FEW_INPUTS"):
        await one.sum()
    assert all(len(trustee.asked) <= 1 for trustee in one.desk.trustees.values())


async def test_one_trustee_alone_cannot_have_a_client_left_out(bench):
    one = await bench(Mode.PAILLIER, {1: "accuses:bank-b"})
    for bank in BANKS:
        await one.submit(bank)
    found = await one.sum()
    assert found["update"].tobytes() == plain_sum(BANKS)["update"].tobytes()
    assert list(one.round.blamed) == []


async def test_two_that_refuse_keep_the_sum_shut(bench):
    one = await bench(Mode.PAILLIER, {1: "refuses", 2: "refuses"})
    for bank in BANKS:
        await one.submit(bank)
    with pytest.raises(FinSecureError, match="ALREADY_OPENED") as caught:
        await one.sum()
    assert caught.value.code == "SUM_NOT_OPENED"


async def test_two_that_are_down_are_asked_again_until_the_deadline(bench):
    one = await bench(Mode.PAILLIER, {2: "down", 3: "down"})
    for bank in BANKS:
        await one.submit(bank)
    opening = asyncio.create_task(one.sum())
    south = one.desk.trustees["south"]
    async with asyncio.timeout(60):
        await south.asked_twice.wait()
    south.conduct = "honest"
    found = await opening
    assert found["update"].tobytes() == plain_sum(BANKS)["update"].tobytes()
    assert len(set(south.asked)) == 1  # the same request each time
    assert len(one.desk.trustees["north"].asked) == 1


async def test_an_opening_goes_on_with_the_answers_on_the_disk(bench):
    first = await bench(Mode.PAILLIER, {2: "down", 3: "down"})
    for bank in BANKS:
        await first.submit(bank)
    opening = asyncio.create_task(first.sum())
    async with asyncio.timeout(60):
        while not list(first.blobs.opening_folder(KEY).glob("partial-1-*")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    again = await bench(Mode.PAILLIER, {1: "down"})  # it is not asked a second time
    for bank in BANKS:
        content = again.blobs.input_path(KEY, bank).read_bytes()
        again.round.accept(bank, signed(again.parameters, content, SIGNERS[bank], bank))
    await again.round.add_inputs(BANKS)
    found = await again.sum()
    assert found["update"].tobytes() == plain_sum(BANKS)["update"].tobytes()
    assert again.desk.trustees["north"].asked == []
    assert again.desk.trustees["south"].asked == first.desk.trustees["north"].asked


async def test_an_opening_is_given_up_at_its_deadline(bench):
    one = await bench(Mode.PAILLIER, {2: "down", 3: "down"})
    for bank in BANKS:
        await one.submit(bank)
    with pytest.raises(FinSecureError, match="TRUSTEE_UNREACHED") as caught:
        await one.sum(wait_s=3)
    assert caught.value.code == "SUM_NOT_OPENED"


async def test_a_slow_trustee_goes_on_and_may_be_first(bench):
    one = await bench(Mode.PAILLIER, {1: "slow", 2: "down", 3: "slow"}, patience_s=0.1)
    for bank in BANKS[:2]:
        await one.submit(bank)
    opening = asyncio.create_task(one.sum())
    south = one.desk.trustees["south"]
    async with asyncio.timeout(60):
        await south.asked_twice.wait()
    for name in ("north", "west"):
        assert len(one.desk.trustees[name].asked) == 1
        one.desk.trustees[name].patience.set()
    found = await opening
    assert found["update"].tobytes() == plain_sum(BANKS[:2])["update"].tobytes()


async def test_no_trustee_is_asked_below_the_minimum_cohort(bench):
    one = await bench()
    await one.submit("bank-a")
    assert not one.round.enough()
    with pytest.raises(FinSecureError, match="TOO_FEW_INPUTS"):
        await one.sum()
    assert all(not trustee.asked for trustee in one.desk.trustees.values())


@pytest.mark.parametrize("mode", [Mode.PAILLIER, Mode.BGV])
async def test_malformed_ciphertexts_fail_their_own_upload_alone(bench, mode):
    one = await bench(mode)
    await one.submit("bank-a")
    key, _ = keys(mode)
    size = key.shape(LAYOUT).input_bytes
    with pytest.raises(FinSecureError) as caught:
        await one.submit("bank-b", b"\xff" * size)
    assert (caught.value.code, caught.value.culprit) == ("CIPHERTEXT_MALFORMED", "bank-b")
    assert not one.blobs.input_path(KEY, "bank-b").exists()
    await one.submit("bank-c")
    found = await one.sum()
    expected = plain_sum(("bank-a", "bank-c"))
    assert found["update"].tobytes() == expected["update"].tobytes()


@pytest.mark.parametrize(
    ("bound", "reason"),
    [
        ({"client": "bank-a"}, "PLAINTEXT_PROOF_REJECTED"),
        ({"round_number": 2}, "PLAINTEXT_PROOF_REJECTED"),
        ({"attempt": 2}, "PLAINTEXT_PROOF_REJECTED"),
        ({"task": "scoring"}, "PLAINTEXT_PROOF_REJECTED"),
        (None, "PLAINTEXT_PROOF_MISSING"),
    ],
)
async def test_who_cannot_prove_what_it_encrypted_fails_alone(bench, bound, reason):
    one = await bench()
    key, _ = keys(Mode.PAILLIER)
    await one.submit("bank-a")
    content = one.input("bank-b", **(bound or {}))
    if bound is None:
        content = content[: key.ciphertext_part(len(content))]
        with pytest.raises(FinSecureError) as caught:
            one.round.check("bank-b", signed(one.parameters, content, SIGNERS["bank-b"], "bank-b"))
    else:
        with pytest.raises(FinSecureError) as caught:
            await one.submit("bank-b", content)
        assert not one.blobs.input_path(KEY, "bank-b").exists()
    assert (caught.value.code, caught.value.culprit) == (reason, "bank-b")
    await one.submit("bank-c")
    found = await one.sum()
    expected = plain_sum(("bank-a", "bank-c"))
    assert found["update"].tobytes() == expected["update"].tobytes()


async def test_an_input_that_kills_workers_fails_alone(bench, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", *sys.path]))
    one = await bench(module="tests.support.bombed_cipher_worker")
    key, _ = keys(Mode.PAILLIER)
    size = key.shape(LAYOUT).input_bytes
    for bank in ("bank-a", "bank-c"):
        await one.submit(bank)
    with pytest.raises(FinSecureError) as caught:
        await one.submit("bank-b", b"BOOM".ljust(size, b"."))
    assert (caught.value.code, caught.value.culprit) == ("WORKER_KILLED", "bank-b")
    found = await one.sum()
    expected = plain_sum(("bank-a", "bank-c"))
    assert found["update"].tobytes() == expected["update"].tobytes()


async def test_the_time_for_an_examination_grows_with_the_input_and_its_end_accuses_nobody(
    bench, monkeypatch, tmp_path
):
    one = await bench()
    content = one.input("bank-a")
    path = tmp_path / "bank-a.input"
    path.write_bytes(content)
    shape = await one.desk.workers.shape(one.key.file, LAYOUT)
    binding = one.parameters.binding().input_binding("bank-a")
    hasty = CipherWorkers(1, 0.001)  # less than it takes to start one
    with pytest.raises(UnavailableError) as caught:
        await examine(hasty, one.key.file, shape, path, "bank-a", binding)
    assert (caught.value.code, caught.value.culprit) == ("EXAMINATION_TIMED_OUT", None)
    assert path.read_bytes() == content  # to be looked into again
    monkeypatch.setattr(ciphers, "_SLOWEST_BYTES_S", len(content) / 60)
    await examine(hasty, one.key.file, shape, path, "bank-a", binding)
    hasty.close()


async def test_a_lost_worker_adds_again(bench):
    one = await bench()
    await one.submit("bank-a")
    os.kill(one.round._sum._worker.pid, signal.SIGKILL)
    await one.submit("bank-b")
    os.kill(one.round._sum._worker.pid, signal.SIGKILL)
    found = await one.sum()
    expected = plain_sum(("bank-a", "bank-b"))
    assert found["update"].tobytes() == expected["update"].tobytes()


async def test_what_is_no_ciphertext_of_this_round_cannot_be_opened(bench):
    one = await bench(Mode.BGV)
    key, _ = keys(Mode.BGV)
    for bank in BANKS[:2]:
        honest = b"".join(key.encrypt(LAYOUT, values(bank), rounding(bank)))
        await one.submit(bank, add(Mode.BGV, [honest] * 200))  # far above what a client may send
    with pytest.raises(FinSecureError, match="SUM_OUT_OF_RANGE"):
        await one.sum()


async def test_a_plan_is_checked_with_its_key(bench, plan):
    from finsecure_crypto.federation import Encryption

    one = await bench()
    encrypted = replace(
        plan, terms=replace(plan.terms, protection=Encryption(Mode.PAILLIER, KEY_NAME))
    )
    await one.desk.check(encrypted)
    wrong = replace(encrypted, terms=replace(plan.terms, protection=Encryption(Mode.BGV, KEY_NAME)))
    with pytest.raises(FinSecureError, match="PROTECTION_MISMATCH"):
        await one.desk.check(wrong)
    lone = replace(one.desk, trustees={"north": one.desk.trustees["north"]})
    with pytest.raises(FinSecureError, match="TRUSTEES_NOT_CONFIGURED"):
        await lone.check(encrypted)
