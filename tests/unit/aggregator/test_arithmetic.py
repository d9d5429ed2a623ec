"""All back ends find the plain sum, bit for bit, through the loss of their workers."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from finsecure_aggregator import frames
from finsecure_aggregator.accumulator import Accumulator
from finsecure_aggregator.arithmetic import open_slices
from finsecure_aggregator.config import Arithmetic
from finsecure_aggregator.process_slices import ProcessSlices
from finsecure_aggregator.slices import LocalSlices, SliceLostError, Span, cut, packed, unpacked
from finsecure_crypto.errors import ConfigurationError, IntegrityError, UnavailableError
from finsecure_crypto.secret import SecretBytes
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.slices import Round


@pytest.fixture
def processes():
    """Opens slices in processes, and can reach the workers."""
    return Remembering(ProcessSlices(workers=2, silence_s=20))


class Remembering:
    def __init__(self, slices):
        self.workers, self._slices, self.opened = slices.workers, slices, []

    def open(self, span):
        self.opened.append(self._slices.open(span))
        return self.opened[-1]

    def close(self):
        self._slices.close()


@given(words=st.integers(1, 5000), parts=st.integers(1, 9), least=st.integers(1, 600))
def test_spans_cover_the_vector_once_and_start_at_blocks_of_the_cipher(words, parts, least):
    spans = cut(words, parts, least)
    assert len(spans) <= parts
    assert all(span.first_word % 2 == 0 and span.words > 0 for span in spans)
    assert all(span.words >= least for span in spans[:-1])
    covered = [word for span in spans for word in range(words)[span.first_word :][: span.words]]
    assert covered == list(range(words))


@given(count=st.integers(0, 40), words=st.integers(1, 2**30), seed=st.integers(0, 2**32))
def test_masks_arrive_as_they_were_sent_in_bounded_messages(count, words, seed):
    rng = np.random.default_rng(seed)
    masks = [(SecretBytes(rng.bytes(16)), int(rng.choice((-1, 1)))) for _ in range(count)]
    messages = list(packed(masks, Span(0, words)))
    assert [mask for message in messages for mask in unpacked(message)] == masks
    most = max(len(message) for message in messages) // 17 if messages else 0
    assert most == 1 or most * words * 8 <= 2**32


def test_many_masks_fit_below_the_limit_of_inline_arguments():
    masks = [(SecretBytes(bytes(16)), 1)] * 5000
    assert max(len(message) for message in packed(masks, Span(0, 2))) < 20_000


@settings(max_examples=25)
@given(
    words=st.integers(1, 3000),
    inputs=st.integers(0, 4),
    masks=st.integers(0, 70),
    workers=st.integers(1, 5),
)
def test_threads_agree_with_the_plain_sum(tmp_path_factory, words, inputs, masks, workers):
    made = Round(tmp_path_factory.mktemp("inputs"), words, inputs, masks)
    made.check(Accumulator(words, LocalSlices(workers), least_words=1))


@pytest.mark.parametrize(
    ("words", "workers"), [(1, 1), (2, 3), (7, 3), (1001, 2), (40_001, 2), (300_001, 3)]
)
def test_processes_agree_with_the_plain_sum(tmp_path, words, workers):
    Round(tmp_path, words).check(Accumulator(words, ProcessSlices(workers, 20), least_words=1))


def test_small_vectors_are_not_cut(processes, tmp_path):
    made = Round(tmp_path, words=16_384)
    made.check(Accumulator(made.words, processes))
    assert len(processes.opened) == 1


def test_nothing_is_started_before_the_first_input_and_all_ends_with_the_sum(processes, tmp_path):
    made = Round(tmp_path, words=1001)
    accumulator = Accumulator(made.words, processes, least_words=1)
    assert not processes.opened
    made.check(accumulator)
    assert len(processes.opened) == 2
    for each in processes.opened:
        with pytest.raises(ProcessLookupError):
            os.kill(each.pid, 0)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_killed_process_is_replaced_and_its_slice_summed_again(processes, tmp_path, after):
    made = Round(tmp_path, words=100_001, inputs=3)
    accumulator = Accumulator(made.words, processes, least_words=1)
    for path in made.paths[:after]:
        accumulator.add_input(path)
    victim = processes.opened[-1]
    os.kill(victim.pid, signal.SIGKILL)
    for path in made.paths[after:]:
        accumulator.add_input(path)
    np.testing.assert_array_equal(accumulator.unmask(made.masks), made.total)
    assert len(processes.opened) == 3


def test_a_process_killed_while_it_unmasks_is_replaced(processes, tmp_path):
    made = Round(tmp_path, words=400_001, inputs=2, masks=3000)
    accumulator = Accumulator(made.words, processes, least_words=1)
    for path in made.paths:
        accumulator.add_input(path)
    killer = threading.Timer(0.2, os.kill, (processes.opened[0].pid, signal.SIGKILL))
    killer.start()
    np.testing.assert_array_equal(accumulator.unmask(made.masks), made.total)
    killer.join()
    assert len(processes.opened) == 3


def test_a_process_that_hangs_is_taken_for_dead(tmp_path):
    slices = Remembering(ProcessSlices(workers=1, silence_s=3))
    made = Round(tmp_path, words=1001)
    accumulator = Accumulator(made.words, slices, least_words=1)
    accumulator.add_input(made.paths[0])
    os.kill(slices.opened[0].pid, signal.SIGSTOP)
    for path in made.paths[1:]:
        accumulator.add_input(path)
    np.testing.assert_array_equal(accumulator.unmask(made.masks), made.total)
    assert len(slices.opened) == 2


def test_a_process_ends_with_the_process_that_started_it(processes):
    opened = processes.open(Span(0, 10))
    opened._connection.close()
    opened._process.wait(timeout=10)


class Broken:
    """Loses every slice at once."""

    workers = 2

    def open(self, span):
        raise SliceLostError("no worker comes up")

    def close(self):
        pass


def test_workers_that_are_lost_again_and_again_stop_the_round(tmp_path):
    made = Round(tmp_path, words=1001)
    with pytest.raises(UnavailableError) as failure:
        Accumulator(made.words, Broken(), least_words=1).add_input(made.paths[0])
    assert failure.value.code == "WORKERS_LOST"


@pytest.mark.parametrize("slices", [LocalSlices(2), ProcessSlices(2, 20)])
def test_an_input_that_is_gone_when_it_is_needed_again_is_named(slices, tmp_path):
    made = Round(tmp_path, words=1001, inputs=2)
    accumulator = Accumulator(made.words, slices, least_words=1)
    for path in made.paths:
        accumulator.add_input(path)
    for part in accumulator._parts:
        part._drop()
    made.paths[0].write_bytes(b"")
    with pytest.raises(IntegrityError, match=made.paths[0].name) as failure:
        accumulator.unmask(made.masks)
    assert failure.value.code == "BLOB_TRUNCATED"
    accumulator.close()


def test_a_round_that_is_put_down_kills_its_processes_and_starts_no_others(processes, tmp_path):
    made = Round(tmp_path, words=400_001, inputs=1, masks=20_000)
    accumulator = Accumulator(made.words, processes, least_words=1)
    accumulator.add_input(made.paths[0])
    closer = threading.Timer(0.3, accumulator.close)
    closer.start()
    started = time.monotonic()
    with pytest.raises(UnavailableError) as failure:
        accumulator.unmask(made.masks)
    closer.join()
    assert failure.value.code == "ROUND_STOPPED"
    assert time.monotonic() - started < 5
    assert len(processes.opened) == 2
    accumulator.close()


def test_the_configuration_names_the_back_end(monkeypatch):
    assert isinstance(open_slices(Arithmetic()), LocalSlices)
    assert isinstance(open_slices(Arithmetic(backend="processes", workers=3)), ProcessSlices)
    for wrong in ({"backend": "processes", "ray_address": "head:6379"}, {"backend": "ray"}):
        with pytest.raises(ValueError, match="go together"):
            Arithmetic(**wrong)
    with pytest.raises(ValueError, match="ray_address"):
        Arithmetic(backend="ray", ray_address="head")
    monkeypatch.setitem(sys.modules, "finsecure_aggregator.ray_slices", None)
    with pytest.raises(ConfigurationError) as failure:
        open_slices(Arithmetic(backend="ray", ray_address="head:6379"))
    assert failure.value.code == "RAY_MISSING"


def test_a_system_without_room_for_a_process_is_a_lost_slice(monkeypatch):
    def full(*_args, **_keywords):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(frames.subprocess, "Popen", full)
    with pytest.raises(SliceLostError, match="no process could be started"):
        ProcessSlices(1, 1).open(Span(0, 2))


def test_inputs_are_added_together_or_not_at_all(processes, tmp_path):
    made = Round(tmp_path, words=1001, inputs=3)
    accumulator = Accumulator(made.words, processes, least_words=1)
    accumulator.add_input()
    assert not processes.opened
    short = tmp_path / "short.words"
    short.write_bytes(bytes(8))
    with pytest.raises(IntegrityError, match=r"short\.words"):
        accumulator.add_input(made.paths[0], short)
    accumulator.add_input(*made.paths)
    np.testing.assert_array_equal(accumulator.unmask(made.masks), made.total)
