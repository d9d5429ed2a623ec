from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from finsecure_client.ledger import Ledger
from finsecure_crypto.errors import ConfigurationError, FinSecureError, InternalError, PolicyError

from tests.support.client import make_task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.json"


def code_of(ledger: Ledger, number: int, attempt: int, **changes: object) -> str:
    try:
        ledger.check(make_task(**changes), number, attempt)
    except PolicyError as error:
        return error.code
    return ""


@pytest.mark.parametrize(
    ("number", "attempt", "code"),
    [
        (3, 2, "ROUND_REPEATED"),
        (3, 1, "ROUND_REPEATED"),
        (2, 9, "ROUND_REPEATED"),
        (0, 1, "ROUND_REPEATED"),
        (3, 3, ""),
        (4, 1, ""),
    ],
)
def test_rounds_only_go_forward_over_restarts(
    path: Path, number: int, attempt: int, code: str
) -> None:
    Ledger(path).record(make_task(), 3, 2)
    assert code_of(Ledger(path), number, attempt) == code


def test_terms_stay_those_of_the_first_input(path: Path) -> None:
    ledger = Ledger(path)
    assert code_of(ledger, 1, 1, encoding__clip_norm=5.0) == ""
    ledger.record(make_task(), 1, 1)
    assert code_of(ledger, 2, 1, encoding__clip_norm=5.0) == "TASK_CHANGED"
    assert code_of(Ledger(path), 2, 1, training__epochs=2) == "TASK_CHANGED"
    assert code_of(ledger, 2, 1) == ""


def test_one_round_is_recorded_once_whoever_asks_at_the_same_time(path: Path) -> None:
    ledger = Ledger(path)

    def record(_: int) -> str:
        try:
            ledger.record(make_task(), 1, 1)
        except PolicyError as error:
            return error.code
        return ""

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(record, range(8))) == ["", *["ROUND_REPEATED"] * 7]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"t": {"number": 1}}', b"\xff"])
def test_damaged_ledger_stops_the_client(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        Ledger(path)
    assert caught.value.code == "LEDGER_INVALID"


def test_what_cannot_be_recorded_is_not_given(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "gone" / "ledger.json")
    with pytest.raises(FinSecureError) as caught:
        ledger.record(make_task(), 1, 1)
    assert isinstance(caught.value, InternalError)
    assert caught.value.code == "LEDGER_NOT_WRITTEN"
    assert code_of(ledger, 1, 1) == ""
