"""A private SoftHSM2 for each test process; tokens are told apart by their labels."""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234-operator"

needs_softhsm = pytest.mark.skipif(
    shutil.which("softhsm2-util") is None or not LIBRARY.exists(),
    reason="SoftHSM2 is missing: apt-get install softhsm2",
)


@dataclass(frozen=True)
class SoftToken:
    """A token on the disk; its files can be moved away and back."""

    label: str
    files: Path
    pin_file: Path

    @property
    def settings(self) -> dict[str, str]:
        return {
            "kind": "pkcs11",
            "library": str(LIBRARY),
            "token_label": self.label,
            "pin_file": str(self.pin_file),
        }

    def remove(self) -> None:
        self.files.rename(self._elsewhere)

    def bring_back(self) -> None:
        self._elsewhere.rename(self.files)

    @property
    def _elsewhere(self) -> Path:
        return self.files.parent.parent / f"{self.label}.removed"


@functools.cache
def _tokens() -> Path:
    # The library reads its configuration once a process, so the folder is the process' own.
    folder = Path(tempfile.mkdtemp(prefix="softhsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokens = folder / "tokens"
    tokens.mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    return tokens


def new_token(folder: Path) -> SoftToken:
    """Make a token with its PIN in a file below a test's folder."""
    tokens = _tokens()
    label = f"t{uuid.uuid4().hex[:12]}"
    before = set(tokens.iterdir())
    pins = ("--pin", PIN, "--so-pin", "5678-officer")
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", label, *pins],
        check=True,
        capture_output=True,
        timeout=60,
    )
    (files,) = set(tokens.iterdir()) - before
    pin_file = folder / f"{label}.pin"
    pin_file.touch(mode=0o600)
    pin_file.write_text(f"{PIN}\n")
    return SoftToken(label, files, pin_file)
