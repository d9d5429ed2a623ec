"""Searches everything that a run wrote for the secrets that the same run made."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

SECRET_FILES = (".key", ".secret", ".pepper", ".api-key")
API_KEY = re.compile(rb"fsj?_[0-9a-f]{16}_([A-Za-z0-9_-]{43})_[0-9a-f]{8}")
PRIVATE_PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_TOO_SHORT = 16


def secrets_of(folder: Path) -> dict[str, bytes]:
    """Every secret in a run's key files, in each form in which it could be written elsewhere."""
    found = {}
    for path in _files(folder):
        if path.name.endswith(SECRET_FILES):
            for form, secret in _forms(path.read_bytes()):
                if len(secret) >= _TOO_SHORT:
                    found[f"{path.relative_to(folder)} {form}"] = secret
    return found


def leaks(folder: Path, secrets: dict[str, bytes], *outputs: str) -> list[str]:
    """Where a secret, a private key in PEM or a whole API key is, outside its own file."""
    written = {f"output {number}": text.encode() for number, text in enumerate(outputs)}
    for path in _files(folder):
        if not path.name.endswith(SECRET_FILES):
            written[str(path.relative_to(folder))] = path.read_bytes()
    found = [
        f"{where}: {what}"
        for where, content in written.items()
        for what, secret in secrets.items()
        if secret in content
    ]
    for where, content in written.items():
        found += [f"{where}: a private key"] * bool(PRIVATE_PEM.search(content))
        found += [f"{where}: an API key"] * bool(API_KEY.search(content))
    return found


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _forms(content: bytes) -> Iterator[tuple[str, bytes]]:
    if PRIVATE_PEM.search(content):
        body = b"".join(content.splitlines()[1:-1])
        yield "in PEM", body[-64:]
        key = load_pem_private_key(content, password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            raw = key.private_numbers().private_value.to_bytes(key.key_size // 8, "big")
        elif isinstance(key, ed25519.Ed25519PrivateKey):
            raw = key.private_bytes_raw()
        else:
            return
    elif match := API_KEY.search(content):
        yield "in base64", match[1]
        raw = base64.urlsafe_b64decode(match[1] + b"=")
    else:
        raw = content
    yield "raw", raw
    yield "in hexadecimal", raw.hex().encode()
    yield "in base64", base64.b64encode(raw).rstrip(b"=")
    yield "in URL-safe base64", base64.urlsafe_b64encode(raw).rstrip(b"=")
    yield "as Python prints it", repr(raw)[2:-1].encode()
