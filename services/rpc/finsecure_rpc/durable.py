"""Files that are whole or absent after a crash: written aside, synced, and renamed into place."""

import os
import secrets
import stat
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file in one step; it never has wider permissions than `mode`."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_link(path: Path, target: Path) -> None:
    """Point a symbolic link to another target in one step."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    temporary.symlink_to(target)
    temporary.replace(path)
    sync_folder(path.parent)


def read_secret(path: Path) -> bytes:
    """Read a file that its owner alone may read.

    Raises:
        ConfigurationError: KEY_FILE_EXPOSED; whoever owns the file has to act.
        OSError: as `open` raises it.
    """
    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise ConfigurationError(
                "KEY_FILE_EXPOSED",
                f"others may read {path}; give it to its owner alone (chmod 600) and ask whether "
                "somebody has",
            )
        return file.read()
