"""Verification keys of an OpenID provider (RFC 7517), from a file or over https.

What is fetched is bounded in size and time, comes from the configured host alone, and is kept:
verifying a token never waits for the network. What was fetched is good for a while only: a provider
that cannot be asked could have withdrawn a key.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from finsecure_crypto.errors import AuthenticationError, ConfigurationError
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from finsecure_rpc.logs import get_logger

_log = get_logger(__name__)

PublicKey = ECKey | OKPKey | RSAKey
_KINDS: dict[str, type[ECKey] | type[OKPKey] | type[RSAKey]] = {
    "EC": ECKey,
    "OKP": OKPKey,
    "RSA": RSAKey,
}
_MOST_BYTES = 256 * 1024
_MOST_KEYS = 64
_MOST_KID = 128
_LEAST_RSA_BITS = 2048
_TIMEOUT_S = 5.0
_REFRESH_S = 300.0
_SOONEST_S = 30.0
_LONGEST_S = max(900.0, 3 * _REFRESH_S)


class KeySource(Protocol):
    """Whoever has the keys of a provider."""

    def get(self, kid: str) -> PublicKey | None:
        """The key with an id; None if there is none now.

        Raises:
            AuthenticationError: TOKEN_KEY_UNKNOWN when nobody can tell, because the provider could
                not be asked for too long.
        """


def parse_keys(content: bytes) -> dict[str, PublicKey]:
    """Read a JSON Web Key Set; keys that cannot verify signatures here are left out.

    Symmetric keys are never taken: who verifies with one could also sign with it.

    Raises:
        ValueError: if it is no key set, or too large.
    """
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it is over {_MOST_BYTES} bytes")
    try:
        listed = json.loads(content)["keys"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("it has no list of keys") from error
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
        raise ValueError(f"it has no list of at most {_MOST_KEYS} keys")
    keys: dict[str, PublicKey] = {}
    for item in listed:
        kid = item.get("kid") if isinstance(item, dict) else None
        if not isinstance(kid, str) or not 0 < len(kid) <= _MOST_KID or kid in keys:
            continue
        key = _public_key(item)
        if key is not None:
            keys[kid] = key
    return keys


def _public_key(item: Mapping[str, Any]) -> PublicKey | None:
    kind = _KINDS.get(str(item.get("kty")))
    if kind is None or item.get("use", "sig") != "sig":
        return None
    try:
        # Only the public members, whatever else the document shows.
        members = ("kty", "crv", "x", "y", "n", "e")
        key = kind.import_key({name: item[name] for name in members if name in item})
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAKey) and key.public_key.key_size < _LEAST_RSA_BITS:
        return None
    return key


class FileKeys:
    """Keys in a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, PublicKey] = {}
        self._seen: tuple[int, int] | None = None
        self._read()

    def get(self, kid: str) -> PublicKey | None:
        """See `KeySource`."""
        try:
            self._read()
        except ConfigurationError as error:
            _log.warning("keys of the provider not read; the last ones stay", error=str(error))
        return self._keys.get(kid)

    def _read(self) -> None:
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_size)
            if version != self._seen:
                self._keys = parse_keys(self._path.read_bytes())
                self._seen = version
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                "JWKS_INVALID", f"{self._path} is not a JSON Web Key Set: {error}"
            ) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow nowhere: the configured host answers, or nobody does."""


class HttpsKeys:
    """Keys from an https address, fetched again and again in the background.

    Args:
        url: of the key set; must begin with `https://`.
        clock: monotonic seconds.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        if not url.startswith("https://"):
            raise ConfigurationError("JWKS_INVALID", f"{url} does not begin with https://")
        self._url = url
        self._clock = clock
        self._keys: dict[str, PublicKey] = {}
        self._asked_s = clock()
        self._wanted = asyncio.Event()

    def get(self, kid: str) -> PublicKey | None:
        """See `KeySource`; an unknown id makes the set be fetched again soon."""
        age_s = self._clock() - self._asked_s
        if age_s > _LONGEST_S:
            since = datetime.now(UTC) - timedelta(seconds=age_s)
            raise AuthenticationError(
                "TOKEN_KEY_UNKNOWN",
                f"the provider could not be asked for its keys since {since:%Y-%m-%d %H:%M} UTC; "
                "the service's log says why. Try again later, or come with a certificate",
            )
        key = self._keys.get(kid)
        if key is None:
            self._wanted.set()
        return key

    async def run(self) -> None:
        """Fetch until cancelled; when it fails, the last keys stay while they are young enough."""
        while True:
            self._wanted.clear()
            asked_s = self._clock()
            try:
                self._keys = await asyncio.to_thread(self._fetch)
                self._asked_s = asked_s
            except Exception as error:  # whatever the provider or a proxy answers
                self._wanted.set()
                _log.warning("keys of the provider not fetched", url=self._url, error=_words(error))
            await asyncio.sleep(_SOONEST_S)  # whatever callers send, no more often than this
            try:
                await asyncio.wait_for(self._wanted.wait(), _REFRESH_S - _SOONEST_S)
            except TimeoutError:
                continue

    def _fetch(self) -> dict[str, PublicKey]:
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(self._url, timeout=_TIMEOUT_S) as response:
            return parse_keys(response.read(_MOST_BYTES + 1))


def _words(error: Exception) -> str:
    """What went wrong; other errors than these could repeat what was answered."""
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, OSError | ValueError) else kind
