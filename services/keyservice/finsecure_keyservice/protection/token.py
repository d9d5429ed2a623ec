"""A PKCS#11 token: one session that is logged in, opened again when it is lost.

Source: PKCS #11 Cryptographic Token Interface 3.1 (OASIS), sections 5.6 and 5.7. Only modules of
this package that are named `token…` import `pkcs11`, which is an extra.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pkcs11
from finsecure_crypto.errors import ConfigurationError, FinSecureError, UnavailableError
from finsecure_crypto.secret import SecretBytes
from pkcs11 import exceptions

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812  # a class

T = TypeVar("T")

# Finalising a library, which alone lets some of them see a token that came back, must not happen
# while another thread is inside it: all calls of the process take turns.
_turn = threading.RLock()

_PIN_REFUSED = (
    exceptions.PinIncorrect,
    exceptions.PinLocked,
    exceptions.PinExpired,
    exceptions.PinInvalid,
    exceptions.PinLenRange,
    exceptions.UserPinNotInitialized,
)


class Token:
    """A token that is found by its label and used with a PIN.

    Errors of all methods: ConfigurationError TOKEN_LIBRARY_MISSING, TOKEN_PIN_REJECTED,
    TOKEN_KEY_MISSING; UnavailableError TOKEN_NOT_PRESENT, TOKEN_FAILED. A PIN that was refused is
    not tried again by this process, because tokens lock themselves after a few wrong ones.

    Args:
        library: the vendor's PKCS#11 library.
        label: of the token.
        pin: of its user.
    """

    def __init__(self, library: Path, label: str, pin: SecretBytes) -> None:
        self._library_path = library
        self._label = label
        self._pin = pin
        self._session: pkcs11.Session | None = None
        self._refused: FinSecureError | None = None
        self._found: dict[tuple[pkcs11.ObjectClass, str, bytes], pkcs11.Object] = {}

    def run(self, act: Callable[[pkcs11.Session], T]) -> T:
        """Run something in the session; if that was lost, once more in a new one.

        `act` may therefore run twice, and must raise `PKCS11Error` unchanged.
        """
        with _turn:
            try:
                return act(self._opened())
            except exceptions.PKCS11Error:
                self._drop()
            try:
                return act(self._opened())
            except exceptions.NoSuchKey as error:
                raise ConfigurationError(
                    "TOKEN_KEY_MISSING",
                    f"the token {self._label} lacks a key of this service; use the token that it "
                    "was set up with, or restore the token's backup",
                ) from error
            except exceptions.PKCS11Error as error:
                self._drop()
                raise UnavailableError(
                    "TOKEN_FAILED",
                    f"the token {self._label} refused to work ({type(error).__name__}); look at "
                    "the log of the token or of its vendor's service, then try again",
                ) from error

    def find(
        self, session: pkcs11.Session, kind: pkcs11.ObjectClass, label: str, key_id: bytes
    ) -> Any:
        """Find an object of the token; within `run`.

        What it can do (encrypt, sign) depends on its attributes, so it has no static type.

        Raises:
            PKCS11Error: NoSuchKey among others.
        """
        place = (kind, label, key_id)
        if place not in self._found:
            require_session(session)
            self._found[place] = session.get_key(object_class=kind, label=label, id=key_id)
        return self._found[place]

    def close(self) -> None:
        """Log out and forget the PIN; nothing works any more."""
        with _turn:
            self._drop()
            self._pin = SecretBytes(b"")
            self._refused = UnavailableError(
                "TOKEN_CLOSED", "the service stops; try again when it is back"
            )

    def _drop(self) -> None:
        session, self._session = self._session, None
        self._found = {}
        if session is not None:
            with suppress(exceptions.PKCS11Error):  # it may be lost already
                session.close()

    def _opened(self) -> pkcs11.Session:
        if self._refused is not None:
            raise self._refused
        if self._session is None:
            library = self._library()
            try:
                self._session = self._open(library)
            except exceptions.PKCS11Error:
                self._session = self._open_anew(library)
        return self._session

    def _open_anew(self, library: "Library") -> pkcs11.Session:
        try:
            library.reinitialize()
            return self._open(library)
        except exceptions.PKCS11Error as error:
            raise UnavailableError(
                "TOKEN_NOT_PRESENT",
                f"there is no token {self._label} ({type(error).__name__}); plug it in, start its "
                "vendor's service, or correct `token_label`, then try again",
            ) from error

    def _open(self, library: "Library") -> pkcs11.Session:
        token = library.get_token(token_label=self._label)
        try:
            return token.open(rw=True, user_pin=self._pin.expose().decode())
        except exceptions.UserAlreadyLoggedIn:
            return token.open(rw=True)  # another session of this process did
        except _PIN_REFUSED as error:
            self._refused = ConfigurationError(
                "TOKEN_PIN_REJECTED",
                f"the token {self._label} refused the PIN ({type(error).__name__}); it is not "
                "tried again, because tokens lock themselves: correct `pin_file`, then restart",
            )
            raise self._refused from error

    def _library(self) -> "Library":
        try:
            return pkcs11.lib(str(self._library_path))
        except (exceptions.PKCS11Error, RuntimeError, OSError) as error:
            raise ConfigurationError(
                "TOKEN_LIBRARY_MISSING",
                f"{self._library_path} is no PKCS#11 library that can be loaded; correct `library`",
            ) from error


def require_session(session: pkcs11.Session) -> None:
    """Fail if a session was lost; to be called before any search.

    A search in a lost session would fail a second time, unraisably, when it is collected.
    """
    session.generate_random(64)
