import os

import pytest
from finsecure_crypto import aead
from finsecure_crypto.secagg import derivation, envelope
from finsecure_crypto.secagg.envelope import CIPHERTEXT_BYTES, SharePair
from finsecure_crypto.secret import SecretBytes

KEY = SecretBytes(b"k" * 32)
SESSION = b"s" * 32
PAIR = SharePair(SecretBytes(b"\x01" * 36), SecretBytes(b"\x02" * 36))


def sealed(plaintext, sender=3, receiver=5):
    associated = derivation.channel_associated_data(SESSION, sender, receiver)
    return aead.seal(KEY, SecretBytes(plaintext), associated, os.urandom)


def plain(sender=3, receiver=5, share=b"\x01" * 36):
    return sender.to_bytes(4, "big") + receiver.to_bytes(4, "big") + share + b"\x02" * 36


def test_what_is_sealed_opens():
    ciphertext = envelope.seal(KEY, SESSION, 3, 5, PAIR, os.urandom)
    assert len(ciphertext) == CIPHERTEXT_BYTES == 108
    assert envelope.open_(KEY, SESSION, 3, 5, ciphertext) == PAIR
    assert envelope.open_(KEY, SESSION, 3, 5, sealed(plain())) == PAIR


@pytest.mark.parametrize(
    ("key", "session", "sender", "receiver"),
    [
        (SecretBytes(b"K" * 32), SESSION, 3, 5),
        (KEY, b"S" * 32, 3, 5),
        (KEY, SESSION, 4, 5),
        (KEY, SESSION, 3, 4),
        (KEY, SESSION, 5, 3),
    ],
)
def test_an_envelope_opens_for_nobody_else(key, session, sender, receiver):
    ciphertext = envelope.seal(KEY, SESSION, 3, 5, PAIR, os.urandom)
    assert envelope.open_(key, session, sender, receiver, ciphertext) is None


@pytest.mark.parametrize(
    "plaintext",
    [
        plain(sender=4),
        plain(receiver=4),
        plain(share=b"\xff" * 36),
        plain()[:-1],
        plain() + b"\x00",
        b"",
    ],
)
def test_what_a_lying_dealer_seals_is_unreadable(plaintext):
    assert envelope.open_(KEY, SESSION, 3, 5, sealed(plaintext)) is None
