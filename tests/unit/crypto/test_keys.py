"""X25519, HKDF, Ed25519, AES-GCM and the random source, by the vectors of their standards."""

import pytest
from finsecure_crypto import aead, agreement, signing, transcript
from finsecure_crypto.errors import (
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    ProtocolViolationError,
)
from finsecure_crypto.randomness import draw, draw_secret
from finsecure_crypto.secret import SecretBytes

from tests.reference import ed25519
from tests.support.crypto import replay, seeded, vectors

SEED = SecretBytes(bytes(range(32)))


def secret(text):
    return SecretBytes(bytes.fromhex(text))


@pytest.mark.parametrize("case", vectors("x25519")["valid"])
def test_x25519(case):
    pair = agreement.KeyPair.from_seed(secret(case["scalar"]))
    assert pair.exchange(bytes.fromhex(case["point"])) == secret(case["shared"])
    assert case.get("public", pair.public.hex()) == pair.public.hex()


@pytest.mark.parametrize("case", vectors("x25519")["invalid"], ids=lambda case: case["why"])
def test_x25519_refuses_peers_without_entropy(case):
    with pytest.raises(ProtocolViolationError) as caught:
        agreement.KeyPair.from_seed(SEED).exchange(bytes.fromhex(case["point"]))
    assert caught.value.code == "PEER_KEY_INVALID"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_x25519_refuses_seeds(length):
    with pytest.raises(InvalidArgumentError):
        agreement.KeyPair.from_seed(SecretBytes(bytes(length)))


def test_generated_pairs_come_from_the_random_source():
    assert (
        agreement.KeyPair.generate(seeded(1)).public == agreement.KeyPair.generate(seeded(1)).public
    )
    assert agreement.KeyPair.generate().public != agreement.KeyPair.generate().public
    assert signing.SigningKey.generate(seeded(1)) == signing.SigningKey.generate(seeded(1))
    assert signing.SigningKey.generate().public != signing.SigningKey.generate().public


@pytest.mark.parametrize("case", vectors("hkdf")["valid"])
def test_hkdf(case):
    salt, info, okm = (bytes.fromhex(case[name]) for name in ("salt", "info", "okm"))
    assert agreement.derive(secret(case["secret"]), salt, info, len(okm)).expose() == okm


def test_hkdf_derives_32_bytes_unless_told():
    assert len(agreement.derive(SEED, b"salt", b"info")) == 32
    assert len(agreement.derive(SEED, b"salt", b"info", 16)) == 16


@pytest.mark.parametrize("length", [0, -1, 255 * 32 + 1])
def test_hkdf_refuses_lengths(length):
    with pytest.raises(InvalidArgumentError):
        agreement.derive(SEED, b"", b"", length)


@pytest.mark.parametrize("case", vectors("ed25519")["valid"])
def test_ed25519_reference_and_public_keys(case):
    seed, message = bytes.fromhex(case["seed"]), bytes.fromhex(case["message"])
    assert ed25519.sign(seed, message).hex() == case["signature"]
    assert ed25519.public_key(seed).hex() == case["public"]
    assert signing.SigningKey.from_seed(SecretBytes(seed)).public.hex() == case["public"]


@pytest.mark.parametrize("parts", [[], [b"a", 1, "c"]])
def test_signatures_are_rfc_8032s_over_the_transcript(parts):
    key = signing.SigningKey.from_seed(SEED)
    signature = key.sign("share-keys", *parts)
    assert signature == ed25519.sign(SEED.expose(), transcript.encode("share-keys", *parts))
    assert signing.verify(key.public, signature, "share-keys", *parts)


def test_signatures_bind_key_label_and_every_part():
    key, other = signing.SigningKey.generate(seeded(1)), signing.SigningKey.generate(seeded(2))
    signature = key.sign("survivors", b"session", 7)
    assert not signing.verify(other.public, signature, "survivors", b"session", 7)
    assert not signing.verify(key.public, signature, "share-keys", b"session", 7)
    assert not signing.verify(key.public, signature, "survivors", b"session", 8)
    assert not signing.verify(key.public, signature, "survivors", b"session")
    for position in range(64):
        changed = bytearray(signature)
        changed[position] ^= 1
        assert not signing.verify(key.public, bytes(changed), "survivors", b"session", 7)


@pytest.mark.parametrize("case", vectors("ed25519")["invalid"], ids=lambda case: case["why"])
def test_malformed_keys_and_signatures_do_not_verify(case):
    public, signature = bytes.fromhex(case["public"]), bytes.fromhex(case["signature"])
    assert not signing.verify(public, signature, "survivors", b"session")


def test_signing_key_keeps_its_seed_for_storage():
    assert signing.SigningKey.from_seed(SEED).seed == SEED
    with pytest.raises(InvalidArgumentError):
        signing.SigningKey.from_seed(SecretBytes(bytes(31)))


@pytest.mark.parametrize("case", vectors("aead")["valid"])
def test_aes_256_gcm(case):
    key, plaintext = secret(case["key"]), secret(case["plaintext"])
    associated = bytes.fromhex(case["associated"])
    sealed = aead.seal(key, plaintext, associated, replay(bytes.fromhex(case["nonce"])))
    assert sealed.hex() == case["nonce"] + case["ciphertext"] + case["tag"]
    assert aead.open_(key, sealed, associated) == plaintext


def test_aead_rejects_every_changed_byte_and_length():
    sealed = aead.seal(SEED, SecretBytes(b"share"), b"u to v")
    assert len(sealed) == 5 + aead.OVERHEAD_BYTES
    changed = [sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :] for i in range(len(sealed))]
    cut = [sealed[:i] for i in range(len(sealed))]
    for ciphertext in [*changed, *cut, sealed + b"\x00"]:
        with pytest.raises(IntegrityError) as caught:
            aead.open_(SEED, ciphertext, b"u to v")
        assert caught.value.code == "CIPHERTEXT_REJECTED"


def test_aead_binds_key_and_associated_data():
    sealed = aead.seal(SEED, SecretBytes(b"share"), b"u to v")
    for key, associated in [(SEED, b"v to u"), (SecretBytes(bytes(32)), b"u to v")]:
        with pytest.raises(IntegrityError):
            aead.open_(key, sealed, associated)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_aead_refuses_keys(length):
    key = SecretBytes(bytes(length))
    with pytest.raises(InvalidArgumentError):
        aead.seal(key, SEED, b"")
    with pytest.raises(InvalidArgumentError):
        aead.open_(key, bytes(60), b"")


def test_nonces_are_fresh():
    nonces = {aead.seal(SEED, SEED, b"")[: aead.NONCE_BYTES] for _ in range(100)}
    assert len(nonces) == 100


@pytest.mark.parametrize("returned", [b"", bytes(31), bytes(33)])
def test_a_random_source_that_falls_short_is_refused(returned):
    with pytest.raises(InternalError) as caught:
        draw(lambda _: returned, 32)
    assert caught.value.code == "RANDOMNESS_BROKEN"


def test_drawn_secrets_have_the_length_asked():
    assert draw_secret(lambda n: b"r" * n) == SecretBytes(b"r" * 32)
    assert len(draw_secret(lambda n: b"r" * n, 16)) == 16
