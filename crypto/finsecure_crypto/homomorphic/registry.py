"""Reads keys and shares of any mode, importing a mode's library only when it is asked for."""

from importlib import import_module
from typing import Protocol, cast

from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.scheme import EncryptionKey, KeyShare
from finsecure_crypto.secret import SecretBytes

_EXTRAS = {Mode.PAILLIER: "paillier", Mode.BGV: "lattice", Mode.CKKS: "lattice"}


class _Readers(Protocol):
    """What the module of each mode, `finsecure_crypto.homomorphic.<mode>`, has."""

    def read_key(self, data: bytes) -> EncryptionKey: ...

    def read_share(self, data: SecretBytes) -> KeyShare: ...


def load_key(mode: Mode, data: bytes) -> EncryptionKey:
    """Reads and checks a serialised public key, which may come from anywhere.

    Raises:
        IntegrityError: `KEY_MALFORMED` for bytes that are no sound key of this mode; the sender's.
        ConfigurationError: `EXTRA_MISSING` where the mode's library is not installed.
    """
    return _readers(mode).read_key(data)


def load_share(mode: Mode, data: SecretBytes) -> KeyShare:
    """Reads and checks a serialised share.

    Raises:
        IntegrityError: `KEY_MALFORMED` for bytes that are no share of this mode; the sender's.
        ConfigurationError: `EXTRA_MISSING` where the mode's library is not installed.
    """
    return _readers(mode).read_share(data)


def require(mode: Mode) -> None:
    """Makes sure that a mode can be used here, for a check at the start of a service.

    Raises:
        ConfigurationError: `EXTRA_MISSING` where the mode's library is not installed.
    """
    _readers(mode)


def _readers(mode: Mode) -> _Readers:
    home = f"finsecure_crypto.homomorphic.{mode.value}"
    try:
        return cast("_Readers", import_module(home))
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "EXTRA_MISSING",
            f'the mode "{mode.value}" needs {error.name}, which is not installed here; '
            f"pip install 'finsecure[{_EXTRAS[mode]}]'",
        ) from error
