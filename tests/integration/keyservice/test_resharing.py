"""New shares, and no shares any more, beside whatever else happens: no key is lost by it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from finsecure_crypto.errors import ConfigurationError, FinSecureError, UnavailableError
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.protection import secret_files
from finsecure_keyservice.protection.file_kek import FileKek
from finsecure_keyservice.protection.secret_files import CLEAR
from finsecure_keyservice.rewrapping import rotate_key_encryption_key
from finsecure_keyservice.seal.resharing import end_seal, reshare
from finsecure_keyservice.seal.unlocking import unlock
from finsecure_keyservice.state import StateFolder

from tests.support.postgresql import DATABASES, database_of
from tests.support.sealed import Sealed

COMMANDS = pytest.mark.parametrize("command", [reshare, end_seal])
Command = Callable[..., object]


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    return Sealed.found(tmp_path, system_clock)


def _versions(configuration: Configuration, former: Sealed) -> int:
    """How many versions of the key the file has, by whichever shares open it now."""
    path = configuration.protected_by.secret_file
    files = sorted((path.parent.parent / "shares").iterdir())
    fresh = [file for file in files if file not in former.share_files]
    for open_with in (lambda: CLEAR, lambda: unlock(configuration, former.share_files)):
        try:
            return len(open_with().read(path).expose().splitlines())
        except FinSecureError:
            continue
    return len(unlock(configuration, fresh).read(path).expose().splitlines())


@pytest.mark.parametrize("database", DATABASES)
@COMMANDS
def test_a_key_that_is_rotated_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, database: str
) -> None:
    sealed = Sealed.found(tmp_path, system_clock, database=database_of(database, tmp_path))
    configuration = sealed.configuration
    files = unlock(configuration, sealed.share_files)
    outcome: list[tuple[int, int] | FinSecureError] = []

    def rotate() -> None:
        try:
            outcome.append(rotate_key_encryption_key(configuration, system_clock(), files))
        except FinSecureError as error:
            outcome.append(error)

    other = threading.Thread(target=rotate)
    write = secret_files.write_file

    def written(path: Path, content: bytes) -> None:
        if threading.current_thread() is not other and not other.ident:
            other.start()  # between the reading of the file and its replacement
            other.join(1.5)
        write(path, content)

    monkeypatch.setattr(secret_files, "write_file", written)
    command(configuration, sealed.share_files, system_clock())
    other.join(60)
    (result,) = outcome
    made = 1 if isinstance(result, FinSecureError) else result[0]
    assert _versions(configuration, sealed) == made
    if isinstance(result, FinSecureError):
        assert result.code in {"SEAL_CHANGED", "NOT_SEALED"}


@COMMANDS
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_leaves_the_old_file_or_the_new_one_whole(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch, command: Command, when: str
) -> None:
    configuration = sealed.configuration
    write = secret_files.write_file
    events = len(sealed.events())

    def died(path: Path, content: bytes) -> NoReturn:
        if when == "after":
            write(path, content)
        raise SystemExit(137)

    with monkeypatch.context() as dying:
        dying.setattr(secret_files, "write_file", died)
        with pytest.raises(SystemExit):
            command(configuration, sealed.share_files, system_clock())
    assert len(sealed.events()) == events
    assert _versions(configuration, sealed) == 1
    if when == "before":  # the former shares open it, and the command can be repeated
        command(configuration, sealed.share_files, system_clock())
        assert len(sealed.events()) == events + 1


def test_what_was_shared_anew_meanwhile_is_not_shared_again(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = sealed.configuration
    opened = StateFolder.open

    def slow(*arguments: object) -> object:
        monkeypatch.setattr(StateFolder, "open", opened)
        reshare(configuration, sealed.share_files, system_clock())
        return made

    made = StateFolder(configuration.state_dir).open(
        configuration.protected_by, unlock(configuration, sealed.share_files)
    )
    monkeypatch.setattr(StateFolder, "open", slow)
    events = len(sealed.events())
    with pytest.raises(UnavailableError, match="SEAL_CHANGED"):
        reshare(configuration, sealed.share_files, system_clock())
    assert [event.action for event in sealed.events()[events:]] == ["seal.create"]


def test_a_running_service_wraps_nothing_by_a_key_that_may_be_old(
    sealed: Sealed, tmp_path: Path
) -> None:
    configuration = sealed.configuration
    path = configuration.protected_by.secret_file
    running = FileKek(path, files=unlock(configuration, sealed.share_files))
    wrapped = running.wrap(SecretBytes(b"secret"), b"")
    shares = reshare(configuration, sealed.share_files, system_clock())
    files = unlock(configuration, shares)
    rotate_key_encryption_key(configuration, system_clock(), files)
    for use in (running.check, lambda: running.wrap(SecretBytes(b"secret"), b"")):
        with pytest.raises(UnavailableError, match=r"finsecure seal.*SEAL_CHANGED"):
            use()
    assert running.unwrap(wrapped, b"").expose() == b"secret"
    # Sealed and unsealed with the new shares, it wraps by the newest version.
    assert FileKek(path, files=files).wrap(SecretBytes(b"secret"), b"")[1:5] == b"\0\0\0\2"


def test_a_service_without_a_seal_notices_that_it_was_sealed(tmp_path: Path) -> None:
    plain = Sealed.found(tmp_path, system_clock, seal=None)
    running = FileKek(plain.configuration.protected_by.secret_file)
    under = Configuration.model_validate(
        {**plain.configuration.model_dump(), "seal": {"shares_dir": tmp_path / "shares"}}
    )
    reshare(under, (), system_clock())
    with pytest.raises(ConfigurationError, match="SERVICE_SEALED"):
        running.wrap(SecretBytes(b"secret"), b"")
