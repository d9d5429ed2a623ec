"""People who sign in at an OpenID provider: their tokens (RFC 7519), verified against pinned rules.

Algorithms are pinned and asymmetric, the key is chosen by its id from the provider's set and by
nothing else in the token, and issuer, audience and times are demanded (RFC 8725).
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.errors import AuthenticationError, PermissionDeniedError
from joserfc import jwt
from joserfc.errors import JoseError

from finsecure_rpc.authenticator import utc_now
from finsecure_rpc.bearer import BEARER_PREFIX, MAXIMUM_TOKEN, Bearer
from finsecure_rpc.jwks import KeySource, PublicKey
from finsecure_rpc.logs import get_logger
from finsecure_rpc.oidc_settings import OidcSettings

_log = get_logger(__name__)

_RANKS = (Role.VIEWER, Role.OPERATOR)
_TYPES = (None, "JWT", "jwt", "at+jwt", "application/at+jwt")
# Headers by which a token could bring its own key, or demand what is not done here.
_REFUSED_HEADERS = ("jku", "jwk", "x5u", "x5c", "crit", "zip", "b64")


class OidcVerifier:
    """Verifies tokens of one provider.

    Args:
        settings: the rules.
        keys: the provider's keys.
        domain: that the people act in.
        clock: aware UTC time.
    """

    def __init__(
        self,
        settings: OidcSettings,
        keys: KeySource,
        domain: str,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._domain = domain
        self._clock = clock
        self._leeway = timedelta(seconds=settings.leeway_s)

    def verify(self, token: str) -> Bearer:
        """See `Bearers`."""
        header = _header(token)
        key = self._key_for(header)
        claims = self._claims(token, key)
        now = self._clock()
        end = self._check_times(claims, now)
        if claims.get("iss") != self._settings.issuer:
            raise _rejected("TOKEN_ISSUER", "the token is of another issuer")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if self._settings.audience not in audiences:
            raise _rejected("TOKEN_AUDIENCE", "the token is for another audience")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise _rejected("TOKEN_MALFORMED", "the token names no subject")
        role = self._role(claims)
        identity = self._identity(role, subject)
        bearer = Bearer(identity, subject, end, str(header["kid"]), key.thumbprint())
        _log.info("token accepted", caller=str(bearer.spiffe_id), subject=subject)
        return bearer

    def recheck(self, bearer: Bearer) -> None:
        """See `Bearers`."""
        if self._clock() > bearer.not_after:
            raise _rejected("TOKEN_EXPIRED", "the token has expired; sign in again")
        if self._key(bearer.key_id).thumbprint() != bearer.key_thumbprint:
            raise _rejected(
                "TOKEN_KEY_UNKNOWN", "the provider has replaced the token's key; sign in again"
            )

    def _key_for(self, header: Mapping[str, Any]) -> PublicKey:
        """The key that has to have signed a token with this header."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.algorithms:
            raise _rejected("TOKEN_ALGORITHM", "the token is signed in a way that is not allowed")
        if any(name in header for name in _REFUSED_HEADERS) or header.get("typ") not in _TYPES:
            raise _rejected("TOKEN_MALFORMED", "the token has a header that is not allowed")
        return self._key(kid)

    def _claims(self, token: str, key: PublicKey) -> Mapping[str, Any]:
        try:
            claims = jwt.decode(token, key, algorithms=list(self._settings.algorithms)).claims
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise _rejected("TOKEN_REJECTED", "the token's signature does not hold") from error
        if not isinstance(claims, dict):
            raise _rejected("TOKEN_MALFORMED", "the token holds no claims")
        return claims

    def _key(self, kid: object) -> PublicKey:
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise _rejected(
                "TOKEN_KEY_UNKNOWN", "the provider has no such key; try again in a minute"
            )
        return key

    def _check_times(self, claims: Mapping[str, Any], now: datetime) -> datetime:
        """Check when the token is good; returns until when, leeway included."""
        issued, start, end = (_instant(claims, name) for name in ("iat", "nbf", "exp"))
        if end is None or issued is None:
            raise _rejected("TOKEN_MALFORMED", "the token does not say when it began and ends")
        if now - self._leeway > end:
            raise _rejected("TOKEN_EXPIRED", "the token has expired; sign in again")
        if now + self._leeway < max(issued, start or issued):
            raise _rejected("TOKEN_EXPIRED", "the token is not valid yet; compare the clocks")
        if end - issued > timedelta(seconds=self._settings.longest_life_s):
            raise _rejected("TOKEN_LIFETIME", "the token lives longer than is allowed here")
        return end + self._leeway  # far from the last year: `end` is a token's life away at most

    def _role(self, claims: Mapping[str, Any]) -> Role:
        value = claims.get(self._settings.role_claim)
        given = value if isinstance(value, list) else [value]
        names = {self._settings.roles.get(item) for item in given if isinstance(item, str)}
        held = [role for role in _RANKS if role.value in names]
        if not held:
            raise PermissionDeniedError(
                "TOKEN_WITHOUT_ROLE", "the token gives none of the roles that are known here"
            )
        return held[-1]

    def _identity(self, role: Role, subject: str) -> SpiffeId:
        """A name that stays, cannot be chosen by anybody, and is no member's."""
        pre_image = json.dumps([self._settings.issuer, subject]).encode()
        return SpiffeId(
            self._domain, role, f"{BEARER_PREFIX}{hashlib.sha256(pre_image).hexdigest()[:32]}"
        )


def _header(token: str) -> Mapping[str, Any]:
    """Read the header of a compact token, before anything in it is believed."""
    parts = token.split(".")
    try:
        if len(token) > MAXIMUM_TOKEN or len(parts) != 3:
            raise ValueError
        raw = base64.b64decode(parts[0] + "=" * (-len(parts[0]) % 4), b"-_", validate=True)
        header = json.loads(raw)
        if not isinstance(header, dict):
            raise ValueError
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _rejected("TOKEN_MALFORMED", "this is not a signed token") from error
    return header


def _instant(claims: Mapping[str, Any], name: str) -> datetime | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _rejected("TOKEN_MALFORMED", f"the token's {name} is no time")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise _rejected("TOKEN_MALFORMED", f"the token's {name} is no time") from error


def _rejected(code: str, message: str) -> AuthenticationError:
    return AuthenticationError(code, message)
