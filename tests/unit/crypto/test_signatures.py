"""Signatures of managed keys, and keys that are brought in."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.key_import import unwrap_import, wrap_for_import
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signatures import (
    SignatureAlgorithm,
    SoftwareSigner,
    load_public_key,
    verify,
)

ALL = sorted(SignatureAlgorithm, key=lambda algorithm: algorithm.value)


@pytest.fixture(scope="module", params=ALL, ids=lambda algorithm: algorithm.value)
def signer(request: pytest.FixtureRequest) -> SoftwareSigner:
    return SoftwareSigner.generate(request.param)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_signature_is_of_its_key_over_its_data_alone(signer: SoftwareSigner) -> None:
    algorithm, key = signer.algorithm, signer.public_key
    signature = signer.sign(b"data")
    assert verify(algorithm, key, signature, b"data")
    assert not verify(algorithm, key, signature, b"Data")
    assert not verify(algorithm, key, signature[:-1], b"data")
    assert not verify(algorithm, key, b"", b"data")
    for at in (0, len(signature) // 2, len(signature) - 1):
        assert not verify(algorithm, key, _flipped(signature, at), b"data")
    for other in set(ALL) - {algorithm}:
        assert not verify(other, key, signature, b"data")


def test_a_key_survives_export(signer: SoftwareSigner) -> None:
    again = SoftwareSigner.load(signer.algorithm, signer.export())
    assert again.public_key == signer.public_key
    assert verify(signer.algorithm, signer.public_key, again.sign(b"data"), b"data")
    for other in set(ALL) - {signer.algorithm}:
        with pytest.raises(InvalidArgumentError, match="KEY_ALGORITHM"):
            SoftwareSigner.load(other, signer.export())


def test_published_signatures_of_rfc_8032_verify() -> None:
    # RFC 8032, section 7.1, test 2.
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    spki = ed25519.Ed25519PublicKey.from_public_bytes(public).public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    assert verify(SignatureAlgorithm.ED25519, spki, signature, b"\x72")


@pytest.mark.parametrize(
    "data", [b"", b"\x30\x00", bytes(100), b"\x30\x82\xff\xff" * 10, b"x" * 9000]
)
def test_what_is_no_key_is_refused(data: bytes) -> None:
    for algorithm in ALL:
        with pytest.raises(InvalidArgumentError, match="KEY_MALFORMED"):
            load_public_key(algorithm, data)
        with pytest.raises(InvalidArgumentError, match="KEY_MALFORMED") as caught:
            SoftwareSigner.load(algorithm, SecretBytes(data))
        assert caught.value.__cause__ is None


def test_weaker_keys_of_the_right_kind_are_refused() -> None:
    for algorithm, key in (
        (SignatureAlgorithm.RSA_4096_PSS_SHA512, rsa.generate_private_key(65537, 2048)),
        (SignatureAlgorithm.EC_P256_SHA256, ec.generate_private_key(ec.SECP384R1())),
    ):
        pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(InvalidArgumentError, match="KEY_ALGORITHM"):
            SoftwareSigner.load(algorithm, SecretBytes(pkcs8))


def test_an_imported_key_opens_for_its_job_and_key_alone() -> None:
    secret, private = SecretBytes(b"k" * 32), SecretBytes(b"p" * 32)
    job = KeyPair.from_seed(private)
    wrapped = wrap_for_import(secret, "job", job.public, "key")
    assert unwrap_import(wrapped, "job", private, "key") == secret
    for bad, name, key in (
        (wrapped, "another job", "key"),
        (wrapped, "job", "another key"),
        (_flipped(wrapped, 40), "job", "key"),
        (_flipped(wrapped, 3), "job", "key"),
        (wrapped[:47], "job", "key"),
        (b"", "job", "key"),
        (bytes(9000), "job", "key"),
    ):
        with pytest.raises(IntegrityError, match="WRAPPED_KEY_REJECTED"):
            unwrap_import(bad, name, private, key)
    with pytest.raises(InvalidArgumentError, match="KEY_MALFORMED"):
        wrap_for_import(secret, "job", b"short", "key")
