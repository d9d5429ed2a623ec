from pathlib import Path

import pytest
from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc.config import RelativePath, Settings, load
from pydantic import Field, create_model


class Listen(Settings):
    address: str
    deadline_s: float = Field(default=5.0, gt=0)


class Example(Settings):
    listen: Listen
    state_dir: RelativePath
    workers: tuple[Listen, ...] = ()
    extra: Listen | None = None


GOOD = 'state_dir = "state"\n[listen]\naddress = "127.0.0.1:1"\n'


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "service.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path, code: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(path, Example)
    assert caught.value.code == code
    assert str(path) in caught.value.message
    return caught.value.message


def test_paths_count_from_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert load(write(tmp_path, GOOD), Example).state_dir == tmp_path / "state"
    absolute = GOOD.replace('"state"', '"/var/state"')
    assert load(write(tmp_path, absolute), Example).state_dir == Path("/var/state")


def test_a_missing_file_is_told(tmp_path):
    refused(tmp_path / "none.toml", "CONFIG_MISSING")


@pytest.mark.parametrize("text", ["a = ", b"\xff\xfe", "a = 1\na = 2", "x" * (1 << 21)])
def test_what_is_not_toml_is_told(tmp_path, text):
    refused(write(tmp_path, text), "CONFIG_INVALID")


def test_an_unknown_key_is_told_with_those_that_are_allowed(tmp_path):
    message = refused(write(tmp_path, GOOD + "deadline = 3\n"), "CONFIG_INVALID")
    assert "unknown key listen.deadline" in message
    assert "address, deadline_s" in message
    message = refused(write(tmp_path, 'colour = "red"\n' + GOOD), "CONFIG_INVALID")
    assert "extra, listen, state_dir, workers" in message
    message = refused(write(tmp_path, GOOD + "[[workers]]\nx = 1\n"), "CONFIG_INVALID")
    assert "unknown key workers.0.x (allowed here: address, deadline_s)" in message
    message = refused(write(tmp_path, GOOD + "[extra]\nx = 1\n"), "CONFIG_INVALID")
    assert "unknown key extra.x (allowed here: address, deadline_s)" in message


def test_a_missing_or_wrong_value_is_told(tmp_path):
    assert "listen.address" in refused(
        write(tmp_path, 'state_dir = "s"\n[listen]\n'), "CONFIG_INVALID"
    )
    message = refused(write(tmp_path, GOOD + "deadline_s = 0\n"), "CONFIG_INVALID")
    assert "greater than 0" in message


def test_settings_do_not_change():
    settings = Listen(address="a")
    with pytest.raises(ValueError, match="frozen"):
        settings.address = "b"


def test_a_misspelt_key_is_named_before_all_that_is_missing(tmp_path):
    wanted = create_model("Wanted", __base__=Settings, **{f"key_{n}": (int, ...) for n in range(9)})
    path = tmp_path / "wanted.toml"
    path.write_text("kee_0 = 1\n")
    with pytest.raises(ConfigurationError) as failure:
        load(path, wanted)
    assert f"In {path}: unknown key kee_0 (allowed here: key_0," in failure.value.message
    assert failure.value.message.endswith("key_6: Field required; and 2 more.")
