"""From configuration to protection: the only place that knows all kinds."""

from pathlib import Path
from typing import TYPE_CHECKING

from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secret import SecretBytes

from finsecure_keyservice.protection.file_kek import FileKek
from finsecure_keyservice.protection.kek import KeyEncryptionKey
from finsecure_keyservice.protection.secret_files import CLEAR, SecretFiles
from finsecure_keyservice.protection.settings import FileProtection, TokenPlace, TokenProtection
from finsecure_keyservice.protection.vault import Vault

if TYPE_CHECKING:
    from finsecure_keyservice.protection.token import Token


def create_kek(settings: FileProtection | TokenProtection) -> KeyEncryptionKey:
    """As `create_vault`, where nothing but wrapping is needed."""
    return create_vault(settings).kek


def open_kek(settings: FileProtection | TokenProtection) -> KeyEncryptionKey:
    """As `open_vault`, where nothing but wrapping is needed."""
    return open_vault(settings).kek


def create_vault(settings: FileProtection | TokenProtection, files: SecretFiles = CLEAR) -> Vault:
    """Make the first key-encryption key where the configuration says; done once, at `init`.

    A key file is written by `files`. The file of a PIN is as its owner has written it: clear.

    Raises:
        ConfigurationError: ALREADY_INITIALISED, EXTRA_MISSING, PIN_FILE_MISSING or as `Token`.
        UnavailableError: as `Token`.
    """
    if isinstance(settings, FileProtection):
        return Vault(FileKek.create(settings.key_file, files=files))
    token = open_token(settings)
    from finsecure_keyservice.protection.token_kek import TokenKek

    TokenKek.create(token, settings.key_label)
    return _vault_of(token, settings)


def open_vault(settings: FileProtection | TokenProtection, files: SecretFiles = CLEAR) -> Vault:
    """Open what `create_vault` made; never makes a key.

    Raises:
        ConfigurationError: KEK_MISSING, KEK_DAMAGED, EXTRA_MISSING, PIN_FILE_MISSING, what
            `SecretFiles` raises, or as `Token`.
        UnavailableError: as `Token`.
    """
    if isinstance(settings, FileProtection):
        return Vault(FileKek(settings.key_file, files=files))
    vault = _vault_of(open_token(settings, files), settings)
    vault.kek.check()
    return vault


def _vault_of(token: "Token", settings: TokenProtection) -> Vault:
    from finsecure_keyservice.protection.token_kek import TokenKek
    from finsecure_keyservice.protection.token_keys import Pkcs11Keys

    signing_label = f"{settings.key_label}.signing"
    return Vault(TokenKek(token, settings.key_label), Pkcs11Keys(token, signing_label))


def open_token(settings: TokenPlace, files: SecretFiles = CLEAR) -> "Token":
    """The token of a configuration, its PIN read from its file; not asked anything yet.

    Raises:
        ConfigurationError: EXTRA_MISSING, PIN_FILE_MISSING, or what `SecretFiles` raises.
    """
    try:
        from finsecure_keyservice.protection.token import Token
    except ImportError as error:
        raise ConfigurationError(
            "EXTRA_MISSING",
            'PKCS#11 tokens need an extra: pip install "finsecure[hsm]"',
        ) from error
    return Token(settings.library, settings.token_label, _pin(settings.pin_file, files))


def _pin(path: Path, files: SecretFiles) -> SecretBytes:
    try:
        return SecretBytes(files.read(path).expose().rstrip(b"\r\n"))
    except OSError as error:
        raise ConfigurationError(
            "PIN_FILE_MISSING",
            f"the PIN file {path} cannot be read ({error.strerror}); correct `pin_file`",
        ) from error
