"""What a command is given to come in by: an API key, or a join token with an id."""

from pathlib import Path

import pytest
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.admission import JoinAs, read_admission


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("fsj_x\n")
    return path


def test_one_of_the_two_is_read(file: Path) -> None:
    assert read_admission(file, None, None) == SecretBytes(b"fsj_x")
    assert read_admission(None, file, "branch-1") == JoinAs(SecretBytes(b"fsj_x"), "branch-1")


@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("member_id", [None, "", "branch-1"])
def test_anything_else_is_unclear(
    file: Path, key: bool, token: bool, member_id: str | None
) -> None:
    if (key, token, member_id) in ((True, False, None), (False, True, "branch-1")):
        return
    with pytest.raises(ConfigurationError, match="ADMISSION_UNCLEAR"):
        read_admission(file if key else None, file if token else None, member_id)
