"""How a share gets from its owner to the service: by a file or unseen, never by argv."""

import getpass
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from finsecure.keyservice.v1 import seal_pb2
from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError, UnavailableError
from finsecure_crypto.key_seal import KeySeal
from finsecure_rpc import unsealing

SHARES = KeySeal.create(2, 3).shares


def test_shares_come_from_files_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "share.txt"
    path.write_text(f"{SHARES[0].expose()}\n")
    typed = io.BytesIO(SHARES[1].expose().encode())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=typed))
    assert unsealing.asked_shares([path, Path("-")]) == list(SHARES[:2])
    with pytest.raises(ConfigurationError, match="SHARE_FILE_MISSING"):
        unsealing.read_share(tmp_path / "none")
    path.write_bytes(b"\xff" * 1000)
    with pytest.raises(InvalidArgumentError, match="SHARE_MALFORMED"):
        unsealing.read_share(path)


def test_without_a_file_a_share_is_asked_for_unseen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return f" {SHARES[2].expose()} "

    monkeypatch.setattr(getpass, "getpass", answer)
    assert unsealing.asked_shares([]) == [SHARES[2]]
    assert asked == ["Share: "]
    assert capsys.readouterr() == ("", "")


def test_the_state_of_a_seal_in_one_line() -> None:
    status = seal_pb2.SealStatus(share_set="0" * 16, threshold=2, shares=3)
    assert unsealing.describe(status).startswith("open: ")
    status.state = seal_pb2.SEAL_STATE_SEALED
    status.shares_given = 1
    status.expire_time.FromSeconds(1_800_000_000)
    assert unsealing.describe(status) == (
        "sealed: 1 of the 2 shares it takes, until 2027-01-15T08:00:00+00:00 (set 0000000000000000)"
    )
    status.failure = "STORE_UNAVAILABLE"
    unsealing.require_no_failure(status)  # new shares are on their way
    status.shares_given = 0
    with pytest.raises(UnavailableError, match=r"STORE_UNAVAILABLE.*UNSEALING_FAILED"):
        unsealing.require_no_failure(status)
    status.state = seal_pb2.SEAL_STATE_UNSEALED
    assert unsealing.describe(status).startswith("unsealed (set ")
    unsealing.require_no_failure(status)
