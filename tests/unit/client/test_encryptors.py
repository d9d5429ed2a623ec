"""Encryption in worker processes gives the same sums, in order, and a lost worker is said."""

import os
import signal

import numpy as np
import pytest
from finsecure_client import encryptors
from finsecure_client.encryptors import Encryptors, encrypted
from finsecure_crypto.encoding import CountSection, VectorLayout
from finsecure_crypto.errors import UnavailableError

from tests.support.paillier import dealt, private_key

KEY = dealt(2048).key
WIDTH = KEY.modulus.words


def plain_words(run: bytes, count: int) -> list[int]:
    plaintexts = private_key().decrypt(run)
    words = [m >> (64 * i) & (2**64 - 1) for m in plaintexts for i in range(WIDTH)]
    assert not any(words[count:])
    return words[:count]


def test_workers_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryptors, "_PIECE", 2)
    words = np.arange(10 * WIDTH + 3, dtype=np.uint64) * np.uint64(2**50 + 1)
    with Encryptors(KEY, 2, window=4) as workers:
        for _ in range(2):  # workers serve again and again
            run = b"".join(part.run for part in workers.encrypt_words(words))
            assert KEY.check(run) == 11
            assert plain_words(run, words.size) == words.tolist()


@pytest.mark.parametrize("worth", [1, 100])
def test_the_same_sum_with_and_without_workers(worth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryptors, "_WORTH", worth)
    layout = VectorLayout((CountSection("counts", 5 * WIDTH, 2**40),), 1000)
    values = {"counts": np.arange(5 * WIDTH)}
    binding, rng = bytes(32), np.random.default_rng()
    made = b"".join(encrypted(KEY, layout, values, rng, binding, processes=2))
    end = KEY.ciphertext_part(len(made))
    run = made[:end]
    KEY.check_input([run], made[end:], binding)
    assert plain_words(run, layout.words) == layout.encode(values, np.random.default_rng()).tolist()


def test_a_lost_worker_is_an_error_and_no_hang() -> None:
    with Encryptors(KEY, 1, window=4) as workers:
        os.kill(workers._workers[0]._process.pid, signal.SIGKILL)
        with pytest.raises(UnavailableError) as caught:
            list(workers.encrypt_words(np.ones(1, np.uint64)))
        assert caught.value.code == "ENCRYPTION_WORKER_LOST"


def test_a_silent_worker_is_an_error_and_no_hang() -> None:
    with Encryptors(KEY, 1, window=4, silence_s=0.1) as workers:
        os.kill(workers._workers[0]._process.pid, signal.SIGSTOP)
        with pytest.raises(UnavailableError) as caught:
            list(workers.encrypt_words(np.ones(1, np.uint64)))
        assert caught.value.code == "ENCRYPTION_WORKER_LOST"


def test_workers_end_with_the_pool() -> None:
    with Encryptors(KEY, 2, window=1) as workers:
        processes = [worker._process for worker in workers._workers]
        assert all(process.poll() is None for process in processes)
    assert all(process.poll() is not None for process in processes)
