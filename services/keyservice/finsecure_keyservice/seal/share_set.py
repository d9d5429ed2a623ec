"""A new set of shares: the seal that they open, and the files in which they are handed out."""

from dataclasses import dataclass
from pathlib import Path

from finsecure_crypto.key_seal import KeySeal, OperatorShare
from finsecure_rpc.durable import write_file

from finsecure_keyservice.audit.trail import Recorder
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.protection.secret_files import CLEAR, SealedFiles, SecretFiles
from finsecure_keyservice.protection.settings import SealSettings


@dataclass(frozen=True)
class ShareSet:
    """A set that opens nothing yet.

    Attributes:
        files: what seals and opens with its key.
        shares: one for each operator.
        folder: where their files go.
    """

    files: SealedFiles
    shares: tuple[OperatorShare, ...]
    folder: Path

    @classmethod
    def create(cls, kind: str, settings: SealSettings) -> "ShareSet":
        """Draw a set for a kind of protection."""
        made = KeySeal.create(settings.threshold, settings.shares)
        return cls(SealedFiles(made.seal, made.key, kind), made.shares, settings.shares_dir)

    @classmethod
    def configured(cls, configuration: Configuration) -> "ShareSet | None":
        """Draw the set that a configuration asks for; None where it has no seal."""
        if configuration.seal is None:
            return None
        return cls.create(configuration.protected_by.kind, configuration.seal)

    def hand_out(self) -> tuple[Path, ...]:
        """Write each share to a new file of its own (mode 0600); their owners take them away."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = []
        for share in self.shares:
            path = share_file(self.folder, share.set_id, share.number)
            write_file(path, share.expose().encode() + b"\n")
            paths.append(path)
        return tuple(paths)

    def take_over(self, path: Path, former: SecretFiles = CLEAR) -> None:
        """Seal what a file holds for this set, in one step; no other set opens it from then on.

        Raises:
            ConfigurationError, UnavailableError, OSError: what `SecretFiles` raises.
        """
        self.files.write(path, former.read(path))

    def record(self, trail: Recorder, domain: str, former: str = "") -> None:
        """Record that it was made, in place of a former set if there was one."""
        seal = self.files.seal
        trail.record(
            "seal.create",
            domain,
            set=seal.set_id,
            threshold=seal.threshold,
            shares=len(seal.digests),
            former=former,
        )


def share_file(folder: Path, set_id: str, number: int) -> Path:
    """Name of the file in which a share is handed out."""
    return folder / f"share-{set_id}-{number}.txt"
