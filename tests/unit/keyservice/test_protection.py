"""Key-encryption keys in files and in SoftHSM2 tokens, whole and broken."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.certificates import Purpose, SpiffeId, verify_certificate
from finsecure_crypto.errors import (
    ConfigurationError,
    IntegrityError,
    InternalError,
    UnavailableError,
)
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signatures import SignatureAlgorithm, verify
from finsecure_keyservice.protection.authority_key import authority_key
from finsecure_keyservice.protection.file_kek import FileKek
from finsecure_keyservice.protection.kek import KeyEncryptionKey
from finsecure_keyservice.protection.opening import (
    create_kek,
    create_vault,
    open_kek,
    open_token,
    open_vault,
)
from finsecure_keyservice.protection.secret_files import ClearFiles
from finsecure_keyservice.protection.settings import (
    FileProtection,
    ProtectionSettings,
    TokenProtection,
)
from finsecure_keyservice.protection.token_kek import TokenKek
from finsecure_keyservice.protection.token_keys import Pkcs11Keys
from finsecure_keyservice.upkeep import Upkeep
from finsecure_rpc.durable import write_file
from pydantic import TypeAdapter, ValidationError

from tests.support.keyservice import DOMAIN, START, root
from tests.support.softhsm import SoftToken, needs_softhsm, new_token

SECRET = SecretBytes(bytes(range(200)))


def _file(folder: Path) -> FileProtection:
    return FileProtection(kind="file", key_file=folder / "kek")


def _token(folder: Path) -> TokenProtection:
    return TokenProtection.model_validate(new_token(folder).settings)


@pytest.fixture(params=[_file, pytest.param(_token, marks=needs_softhsm)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> FileProtection | TokenProtection:
    made: FileProtection | TokenProtection = request.param(tmp_path)
    return made


def test_what_is_wrapped_opens_after_a_restart_and_a_rotation(
    settings: FileProtection | TokenProtection,
) -> None:
    made = create_kek(settings)
    first = made.wrap(SECRET, b"context")
    assert made.version == 1
    opened = open_kek(settings)
    assert opened.unwrap(first, b"context") == SECRET
    assert opened.rotate() == 2
    second = opened.wrap(SECRET, b"context")
    assert second[1:5] == b"\0\0\0\2"
    again = open_kek(settings)
    assert again.version == 2
    assert [again.unwrap(wrapped, b"context") for wrapped in (first, second)] == [SECRET] * 2
    again.check()


def test_two_processes_that_rotate_lose_no_version(
    settings: FileProtection | TokenProtection,
) -> None:
    create_kek(settings)
    one, other = open_kek(settings), open_kek(settings)
    assert one.rotate() == 2
    wrapped = one.wrap(SECRET, b"context")
    assert other.rotate() == 3
    again = open_kek(settings)
    assert again.version == 3
    assert again.unwrap(wrapped, b"context") == SECRET


def test_what_another_process_rotated_wraps_at_once(
    settings: FileProtection | TokenProtection,
) -> None:
    create_kek(settings)
    running, other = open_kek(settings), open_kek(settings)
    running.wrap(SECRET, b"context")
    for version in (2, 3):
        assert other.rotate() == version
        wrapped = running.wrap(SECRET, b"context")
        assert int.from_bytes(wrapped[1:5], "big") == running.version == version
        assert other.unwrap(wrapped, b"context") == SECRET
        running.check()


def test_wrapping_twice_gives_different_bytes_without_the_secret(
    settings: FileProtection | TokenProtection,
) -> None:
    key = create_kek(settings)
    first, second = key.wrap(SECRET, b""), key.wrap(SECRET, b"")
    assert first != second
    assert len(first) == 5 + 12 + len(SECRET) + 16
    assert SECRET.expose()[:16] not in first


def test_what_was_changed_or_moved_is_refused(settings: FileProtection | TokenProtection) -> None:
    key = create_kek(settings)
    wrapped = key.wrap(SECRET, b"context")
    key.rotate()
    changed = [
        wrapped[:i] + bytes([wrapped[i] ^ 1]) + wrapped[i + 1 :]
        for i in (0, 5, 20, -1 % len(wrapped))
    ]
    other_version = b"\x01\0\0\0\2" + wrapped[5:]
    unknown_version = b"\x01\0\0\0\3" + wrapped[5:]
    for bad in (
        b"",
        wrapped[:4],
        wrapped[:32],
        wrapped[:-1],
        other_version,
        unknown_version,
        *changed,
    ):
        with pytest.raises(IntegrityError, match="WRAPPED_KEY_REJECTED"):
            key.unwrap(bad, b"context")
    with pytest.raises(IntegrityError, match="WRAPPED_KEY_REJECTED"):
        key.unwrap(wrapped, b"another context")
    assert key.unwrap(wrapped, b"context") == SECRET


def test_a_key_is_never_made_twice_nor_by_opening(
    settings: FileProtection | TokenProtection,
) -> None:
    with pytest.raises(ConfigurationError, match=r"KEK_MISSING|TOKEN_KEY_MISSING"):
        open_kek(settings)
    create_kek(settings)
    with pytest.raises(ConfigurationError, match="ALREADY_INITIALISED"):
        create_kek(settings)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "KEK_DAMAGED"),
        (b"1 00\n", "KEK_DAMAGED"),
        (b"2 " + b"0" * 64 + b"\n", "KEK_DAMAGED"),
        (b"1 " + b"0" * 64 + b"\n1 " + b"0" * 64 + b"\n", "KEK_DAMAGED"),
        (b"1 " + b"0" * 64, "KEK_DAMAGED"),
    ],
)
def test_a_damaged_key_file_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    settings = _file(tmp_path)
    settings.key_file.touch(mode=0o600)
    settings.key_file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=code):
        open_kek(settings)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    settings = _file(tmp_path)
    create_kek(settings)
    assert settings.key_file.stat().st_mode & 0o777 == 0o600
    settings.key_file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="KEY_FILE_EXPOSED"):
        open_kek(settings)


class _Counted(ClearFiles):
    """Counts how often a file is read."""

    reads = 0

    def read(self, path: Path) -> SecretBytes:
        self.reads += 1
        return super().read(path)


def test_a_key_file_is_read_only_if_it_was_replaced(tmp_path: Path) -> None:
    settings, files = _file(tmp_path), _Counted()
    create_kek(settings)
    key = FileKek(settings.key_file, files=files)
    for _ in range(3):
        wrapped = key.wrap(SECRET, b"")
        assert key.unwrap(wrapped, b"") == SECRET
        key.check()
        assert key.version == 1
    assert files.reads == 1
    open_kek(settings).rotate()
    assert key.version == 2
    assert files.reads == 2


async def test_a_key_file_that_is_lost_or_replaced_wraps_nothing_and_health_says_so(
    tmp_path: Path,
) -> None:
    settings = _file(tmp_path)
    path = settings.key_file
    key = create_kek(settings)
    first = path.read_bytes()
    key.rotate()
    wrapped, good = key.wrap(SECRET, b""), path.read_bytes()
    fresh: Any = _Fresh()
    upkeep = Upkeep(fresh, fresh, fresh, key, timedelta(hours=1), fresh)
    for content, code in (
        (None, "KEK_MISSING"),
        (b"", "KEK_DAMAGED"),
        (first, "KEK_REPLACED"),
        (b"1 " + b"0" * 64 + b"\n2 " + b"0" * 64 + b"\n", "KEK_REPLACED"),
    ):
        path.unlink()
        if content is not None:
            write_file(path, content)
        with pytest.raises(ConfigurationError, match=code):
            key.wrap(SECRET, b"")
        with pytest.raises(ConfigurationError, match=code):
            key.rotate()
        assert not await upkeep._ready()
        assert key.unwrap(wrapped, b"") == SECRET
        write_file(path, good)
        assert await upkeep._ready()
        key.wrap(SECRET, b"")


@pytest.mark.parametrize(
    "section",
    [
        {"kind": "file"},
        {"kind": "vault", "key_file": "kek"},
        {"kind": "file", "key_file": "kek", "pin_file": "pin"},
        {"kind": "pkcs11", "library": "x.so", "token_label": "t"},
        {"kind": "pkcs11", "library": "x.so", "token_label": "t", "pin": "1234", "pin_file": "p"},
        {"kind": "pkcs11", "library": "x.so", "token_label": "", "pin_file": "p"},
    ],
)
def test_a_wrong_section_is_refused(section: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ProtectionSettings).validate_python(section)


@pytest.fixture
def token(tmp_path: Path) -> SoftToken:
    return new_token(tmp_path)


def _created(token: SoftToken) -> KeyEncryptionKey:
    return create_kek(TokenProtection.model_validate(token.settings))


@needs_softhsm
def test_a_lost_session_is_opened_again(token: SoftToken) -> None:
    settings = TokenProtection.model_validate(token.settings)
    link = open_token(settings)
    key = TokenKek.create(link, settings.key_label)
    wrapped = key.wrap(SECRET, b"")
    for use in (
        lambda: key.unwrap(wrapped, b""),
        lambda: key.wrap(SECRET, b""),
        key.check,
        key.rotate,
    ):
        link.run(lambda session: session.close())
        use()


@needs_softhsm
def test_a_token_that_is_removed_says_so_until_it_is_back(token: SoftToken) -> None:
    key = _created(token)
    wrapped = key.wrap(SECRET, b"")
    token.remove()
    uses: list[Callable[[], object]] = [
        key.check,
        lambda: key.wrap(SECRET, b""),
        lambda: key.unwrap(wrapped, b""),
    ]
    for use in uses:
        with pytest.raises(UnavailableError, match="TOKEN_NOT_PRESENT"):
            use()
    token.bring_back()
    for use in uses:
        use()
    assert key.unwrap(wrapped, b"") == SECRET


@needs_softhsm
def test_a_wrong_pin_is_tried_once(token: SoftToken) -> None:
    token.pin_file.write_text("9999-wrong\n")
    settings = TokenProtection.model_validate(token.settings)
    link = open_token(settings)
    for _ in range(20):  # a token would be locked after a few
        with pytest.raises(ConfigurationError, match="TOKEN_PIN_REJECTED"):
            TokenKek.create(link, settings.key_label)
    token.pin_file.write_text("1234-operator")
    _created(token)


@needs_softhsm
@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"library": "/nowhere/libpkcs11.so"}, ConfigurationError, "TOKEN_LIBRARY_MISSING"),
        ({"library": __file__}, ConfigurationError, "TOKEN_LIBRARY_MISSING"),
        ({"token_label": "another"}, UnavailableError, "TOKEN_NOT_PRESENT"),
        ({"pin_file": "/nowhere/pin"}, ConfigurationError, "PIN_FILE_MISSING"),
        ({"key_label": "another"}, ConfigurationError, "TOKEN_KEY_MISSING"),
    ],
)
def test_what_is_configured_wrongly_is_named(
    token: SoftToken, change: dict[str, str], error: type[Exception], code: str
) -> None:
    _created(token)
    with pytest.raises(error, match=code):
        open_kek(TokenProtection.model_validate({**token.settings, **change}))


@needs_softhsm
@pytest.mark.parametrize("algorithm", sorted(Pkcs11Keys.algorithms, key=lambda item: item.value))
def test_a_key_in_the_token_signs_there_and_never_leaves(
    token: SoftToken, algorithm: SignatureAlgorithm
) -> None:
    settings = TokenProtection.model_validate(token.settings)
    stored = create_vault(settings).generate(algorithm, b"whose")
    assert stored.in_token
    vault = open_vault(settings)
    signer = vault.open(algorithm, stored.handle, b"whose")
    assert signer.public_key == stored.signer.public_key
    signature = signer.sign(b"data")
    assert verify(algorithm, signer.public_key, signature, b"data")
    assert not verify(algorithm, signer.public_key, signature, b"other data")

    def attributes(session: pkcs11.Session) -> list[tuple[bool, bool]]:
        keys = session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})
        return [
            (key[pkcs11.Attribute.SENSITIVE], key[pkcs11.Attribute.EXTRACTABLE]) for key in keys
        ]

    assert open_token(settings).run(attributes) == [(True, False)]
    vault.destroy(stored.handle)
    vault.destroy(stored.handle)
    with pytest.raises(ConfigurationError, match="TOKEN_KEY_MISSING"):
        open_vault(settings).open(algorithm, stored.handle, b"whose")


@pytest.mark.parametrize("algorithm", list(SignatureAlgorithm))
def test_a_wrapped_key_signs_and_opens_for_its_owner_alone(
    tmp_path: Path, algorithm: SignatureAlgorithm
) -> None:
    vault = create_vault(_file(tmp_path))
    stored = vault.generate(algorithm, b"whose")
    assert not stored.in_token
    vault.kek.rotate()
    handle = vault.rewrap(stored.handle, b"whose")
    assert handle != stored.handle
    for each in (stored.handle, handle):
        signer = vault.open(algorithm, each, b"whose")
        assert verify(algorithm, stored.signer.public_key, signer.sign(b"data"), b"data")
        with pytest.raises(IntegrityError, match="WRAPPED_KEY_REJECTED"):
            vault.open(algorithm, each, b"another's")


@needs_softhsm
def test_what_the_token_cannot_hold_is_wrapped_by_it(token: SoftToken) -> None:
    vault = create_vault(TokenProtection.model_validate(token.settings))
    stored = vault.generate(SignatureAlgorithm.ML_DSA_65, b"whose")
    assert not stored.in_token
    signature = vault.open(SignatureAlgorithm.ML_DSA_65, stored.handle, b"whose").sign(b"data")
    assert verify(SignatureAlgorithm.ML_DSA_65, stored.signer.public_key, signature, b"data")


def test_a_token_key_without_a_token_is_refused(tmp_path: Path) -> None:
    vault = create_vault(_file(tmp_path))
    for handle in (b"T" + bytes(16), b"", b"X"):
        with pytest.raises(IntegrityError, match="WRAPPED_KEY_REJECTED"):
            vault.open(SignatureAlgorithm.ED25519, handle, b"")
        with pytest.raises(IntegrityError, match="WRAPPED_KEY_REJECTED"):
            vault.open_secret(handle, b"")


@needs_softhsm
def test_an_authority_issues_with_a_key_in_the_token(token: SoftToken) -> None:
    settings = TokenProtection.model_validate(token.settings)
    vault = create_vault(settings)
    key = authority_key(vault.generate(SignatureAlgorithm.EC_P256_SHA256, b"authority").signer)
    authority = root().create_intermediate(START, timedelta(days=1), key)
    identity = SpiffeId.parse(f"spiffe://{DOMAIN}/operator/alice")
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    link = open_token(settings)
    for _ in range(2):
        issued = authority.issue(identity, Purpose.TLS, public_key, START, timedelta(hours=1))
        der = issued.public_bytes(Encoding.DER)
        verified = verify_certificate(der, authority.anchors, None, START, Purpose.TLS)
        assert verified.spiffe_id == identity
        revoked = authority.revocation_list([], 1, START, timedelta(hours=1))
        assert revoked.is_signature_valid(authority.certificate.public_key())
        link.run(lambda session: session.close())  # logs out every session of this process
    for use in (key.private_numbers, lambda: key.sign(b"", ec.ECDSA(hashes.SHA384()))):
        with pytest.raises(InternalError, match="KEY_USE_NOT_OFFERED"):
            use()
    token.remove()
    with pytest.raises(UnavailableError, match="TOKEN_NOT_PRESENT"):
        authority.revocation_list([], 2, START, timedelta(hours=1))


class _Fresh:
    """A feed whose list is in date, an identity, and an audit log that is well."""

    spiffe_id = f"spiffe://{DOMAIN}/keyservice/main"

    def current(self) -> None:
        return None

    def healthy(self) -> bool:
        return True


@needs_softhsm
async def test_the_service_is_not_ready_while_its_token_is_away(token: SoftToken) -> None:
    key = _created(token)
    fresh: Any = _Fresh()
    upkeep = Upkeep(fresh, fresh, fresh, key, timedelta(hours=1), fresh)
    assert await upkeep._ready()
    token.remove()
    assert not await upkeep._ready()
    token.bring_back()
    assert await upkeep._ready()
