"""Putting a key service under a seal, under another one, and out of it; while it runs or not."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.key_seal import is_sealed
from finsecure_rpc.durable import read_secret

from finsecure_keyservice.audit.trail import Recorder
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.local_command import LocalCommand
from finsecure_keyservice.protection.secret_files import CLEAR, SecretFiles
from finsecure_keyservice.seal.share_set import ShareSet
from finsecure_keyservice.seal.unlocking import unlock_sealed


def reshare(
    configuration: Configuration, share_files: Sequence[Path], now: datetime
) -> tuple[Path, ...]:
    """Make new shares, of which the configuration says how many; the former open nothing more.

    What lay open is sealed by it. Returns the files in which the shares are handed out.

    Raises:
        ConfigurationError: SEAL_NOT_CONFIGURED, or what `unlock` and `LocalCommand` raise.
        InvalidArgumentError, AuthenticationError: what `unlock` raises.
        UnavailableError: the database or the token, or SEAL_CHANGED if another such command was
            quicker. Nothing was changed, unless only the commit failed; then the file is new.
    """
    share_set = ShareSet.configured(configuration)
    if share_set is None:
        raise ConfigurationError(
            "SEAL_NOT_CONFIGURED", "there is no section [seal]; write one first, see the example"
        )
    path = configuration.protected_by.secret_file
    former: SecretFiles = CLEAR
    former_id = ""
    if is_sealed(read_secret(path)):
        former = sealed = unlock_sealed(configuration, share_files)
        former_id = sealed.seal.set_id
    # Shares come first: a seal without them would lock everybody out.
    shares = share_set.hand_out()
    domain = configuration.domain

    def work(trail: Recorder) -> None:
        share_set.record(trail, domain, former_id)
        share_set.take_over(path, former)

    _decide(LocalCommand.open("reshare", configuration, former), now, work)
    return shares


def end_seal(configuration: Configuration, share_files: Sequence[Path], now: datetime) -> Path:
    """Let what `[protection]` needs lie open again; returns its file.

    Raises:
        ConfigurationError: NOT_SEALED, or what `unlock` and `LocalCommand` raise.
        InvalidArgumentError, AuthenticationError: what `unlock` raises.
        UnavailableError: as in `reshare`.
    """
    path = configuration.protected_by.secret_file
    files = unlock_sealed(configuration, share_files)
    set_id, domain = files.seal.set_id, configuration.domain

    def work(trail: Recorder) -> None:
        trail.record("seal.end", domain, set=set_id)
        CLEAR.write(path, files.read(path))

    _decide(LocalCommand.open("end-seal", configuration, files), now, work)
    return path


def _decide(command: LocalCommand, now: datetime, work: Callable[[Recorder], None]) -> None:
    """Record, then replace the file as it is now: both within the one exclusive transaction.

    `rotate-kek` makes its version in such a transaction too, so none is lost. The file is old or
    new, whole in either case: a crash before the commit may leave the new one without its event.
    """
    command.decide(now, lambda _, trail: work(trail))
