"""A command on the key service's own machine: what it opens, and the transaction it decides in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from finsecure_rpc.database import open_database
from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Caller, Trail
from finsecure_keyservice.books import check_books
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import auditor_of
from finsecure_keyservice.protection.secret_files import CLEAR, SealedFiles, SecretFiles
from finsecure_keyservice.protection.vault import Vault
from finsecure_keyservice.state import KeyMaterial, StateFolder

T = TypeVar("T")


@dataclass(frozen=True)
class LocalCommand:
    """Works on the database and the state folder themselves; the service may be running.

    Attributes:
        name: as it is typed; the events of what it decides have it.
        configuration: of the key service.
        vault: opens and wraps keys.
        material: the root certificate and the secrets of the service.
        files: read and write the protected file; under a seal, by the shares that were given.
    """

    name: str
    configuration: Configuration
    vault: Vault
    material: KeyMaterial
    files: SecretFiles

    @classmethod
    def open(
        cls, name: str, configuration: Configuration, files: SecretFiles = CLEAR
    ) -> "LocalCommand":
        """Open the vault and read the secrets.

        Raises:
            ConfigurationError, UnavailableError: what `StateFolder.open` raises.
        """
        folder = StateFolder(configuration.state_dir)
        vault, material = folder.open(configuration.protected_by, files)
        return cls(name, configuration, vault, material, files)

    @property
    def folder(self) -> StateFolder:
        """The folder of key material."""
        return StateFolder(self.configuration.state_dir)

    def decide(self, now: datetime, work: Callable[[Connection, Trail], T]) -> T:
        """Run one transaction, with the trail of its events.

        Whoever replaces files of key material does so in it, because such commands exclude each
        other by it. Under a seal the events say which shares were given.

        Raises:
            ConfigurationError: what `check_books` raises.
            UnavailableError: the database; nothing was changed there.
        """
        auditor = auditor_of(self.configuration, self.material, lambda: now)
        return self.exclusively(
            lambda connection: work(connection, auditor.trail(connection, self._caller()))
        )

    def exclusively(self, work: Callable[[Connection], T]) -> T:
        """Run a transaction that decides nothing; raises as `decide`."""
        database = open_database(self.configuration.database)

        def transaction(connection: Connection) -> T:
            check_books(connection, self.configuration.domain)
            return work(connection)

        try:
            return database.run_sync(transaction)
        finally:
            database.close()

    def _caller(self) -> Caller:
        if not isinstance(self.files, SealedFiles):
            return Caller(f"local:{self.name}")
        numbers = ",".join(map(str, self.files.numbers))
        return Caller(f"local:{self.name}", opened_by=f"{self.files.seal.set_id} {numbers}")
