"""An OpenID provider for tests: keys, a key set, and tokens, sound and not."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from finsecure_rpc.oidc_settings import OidcSettings
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from tests.support.pki import utc_now

ISSUER = "https://login.example.test"
AUDIENCE = "finsecure"
ALGORITHMS = ("ES256", "PS256")


@dataclass
class Provider:
    key: ECKey = field(
        default_factory=lambda: ECKey.generate_key("P-256", {"kid": "one", "use": "sig"})
    )
    rsa: RSAKey = field(
        default_factory=lambda: RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
    )

    def key_set(self) -> bytes:
        shared = OctKey.generate_key(256, {"kid": "shared"})
        keys = KeySet([self.key, self.rsa, shared]).as_dict(private=False)
        return json.dumps(keys).encode()

    def write(self, folder: Path) -> Path:
        path = folder / "provider.jwks"
        path.write_bytes(self.key_set())
        return path

    def claims(self, now: datetime | None = None, **changed: Any) -> dict[str, Any]:
        """Sound claims; a change to None leaves one out."""
        start = int((now or utc_now()).timestamp())
        sound = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "erin",
            "iat": start,
            "nbf": start,
            "exp": start + 600,
            "roles": ["fs-run"],
        }
        return {key: value for key, value in {**sound, **changed}.items() if value is not None}

    def token(self, now: datetime | None = None, **changed: Any) -> str:
        return self.sign(self.claims(now, **changed))

    def sign(self, claims: dict[str, Any], key: Any = None, **header: Any) -> str:
        whole = {"alg": "ES256", "kid": "one", **header}
        return jwt.encode(
            {k: v for k, v in whole.items() if v is not None},
            claims,
            key or self.key,
            algorithms=[whole["alg"]],
        )


def settings(jwks: Path, **changed: Any) -> OidcSettings:
    return OidcSettings(
        **{
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks_file": jwks,
            "algorithms": ALGORITHMS,
            "roles": {"fs-view": "viewer", "fs-run": "operator"},
            **changed,
        }
    )
