"""The pepper of a running service, which a command beside it may rotate."""

from finsecure_crypto.secret import SecretBytes

from finsecure_keyservice.protection.vault import Vault
from finsecure_keyservice.state import StateFolder


class PepperFile:
    """Gives the pepper that lies in the state folder now.

    Whoever rotates it does so inside a transaction, and whoever asks here is in one, so a key is
    never compared under another pepper than the one that it was issued under.
    """

    def __init__(self, folder: StateFolder, vault: Vault) -> None:
        self._folder = folder
        self._vault = vault
        self._opened: tuple[bytes, SecretBytes] | None = None

    def __call__(self) -> SecretBytes:
        """The pepper; unwrapped again only when the file has changed.

        Raises:
            ConfigurationError: KEY_FILE_EXPOSED, STATE_DAMAGED.
            UnavailableError: what the vault raises.
        """
        wrapped = self._folder.pepper()
        if self._opened is None or self._opened[0] != wrapped:
            self._opened = wrapped, self._folder.open_pepper(self._vault, wrapped)
        return self._opened[1]
