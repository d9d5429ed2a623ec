"""Checkpoints: signed notes as in C2SP, and every way to spoil one."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from finsecure_crypto.checkpoint import Checkpoint, LogSigner, LogVerifier
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.merkle import EMPTY_ROOT
from finsecure_crypto.secret import SecretBytes

ROOT = bytes(range(32))
SIGNER = LogSigner.from_seed("finsecure.test/audit", SecretBytes(b"s" * 32))
NOTE = SIGNER.sign(7, ROOT)


def test_the_verifier_key_agrees_with_the_published_example():
    # From the documentation of Go's golang.org/x/mod/sumdb/note, whose format C2SP specifies.
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    verifier = LogVerifier.parse(text)
    assert verifier.serialise() == text
    body = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    signature = (
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpR"
        "Zb6KE6RyyBwJnAM="
    )
    assert verifier._signed(signature, body)
    assert not verifier._signed(signature, body + " ")


def test_a_checkpoint_is_three_lines_and_a_signature():
    body, _, signature = NOTE.partition("\n\n")
    assert body == f"finsecure.test/audit\n7\n{base64.b64encode(ROOT).decode()}"
    assert signature.startswith("\u2014 finsecure.test/audit ")
    assert signature.endswith("\n")
    assert SIGNER.verifier.open(NOTE) == Checkpoint("finsecure.test/audit", 7, ROOT)
    assert SIGNER.verifier.open(SIGNER.sign(0, EMPTY_ROOT)).size == 0
    assert "SecretBytes" not in repr(SIGNER)
    assert "Private" not in repr(SIGNER)


def test_signatures_of_witnesses_may_stand_beside_the_logs_own():
    witness = f"\u2014 witness.example/w {base64.b64encode(b'1234' + bytes(64)).decode()}\n"
    body, gap, signature = NOTE.partition("\n\n")
    assert SIGNER.verifier.open(f"{body}{gap}{witness}{signature}{witness}").size == 7


def _signed(body: str) -> str:
    """A note with a true signature over a body that no log signs."""
    private = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    blob = SIGNER.verifier.key_id + private.sign(body.encode())
    return f"{body}\n\u2014 finsecure.test/audit {base64.b64encode(blob).decode()}\n"


ENCODED = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\u2014", "-"),
        NOTE + "x" * 5000,
        _signed(f"finsecure.test/audit\n07\n{ENCODED}\n"),
        _signed(f"finsecure.test/audit\n-7\n{ENCODED}\n"),
        _signed(f"finsecure.test/audit\n+7\n{ENCODED}\n"),
        _signed(f"finsecure.test/audit\n{2**63}\n{ENCODED}\n"),
        _signed(f"finsecure.test/audit\n\u0667\n{ENCODED}\n"),
        _signed(f"finsecure.test/audit\n7\n{ENCODED[:-1]}\n"),
        _signed(f"finsecure.test/audit\n7\n{ENCODED[:-2]}9=\n"),
        _signed(f"finsecure.test/audit\n0\n{ENCODED}\n"),
        _signed(f"\n7\n{ENCODED}\n"),
        _signed("finsecure.test/audit\n7\n"),
    ],
)
def test_malformed_notes(note):
    with pytest.raises(IntegrityError, match="CHECKPOINT_MALFORMED"):
        SIGNER.verifier.open(note)


@pytest.mark.parametrize(
    "note",
    [
        NOTE.replace("\n7\n", "\n8\n"),
        NOTE.replace("audit\n7", "audit2\n7"),
        LogSigner.from_seed("finsecure.test/audit", SecretBytes(b"o" * 32)).sign(7, ROOT),
        LogSigner.from_seed("finsecure.other/audit", SecretBytes(b"s" * 32)).sign(7, ROOT),
        _signed(f"finsecure.other/audit\n7\n{ENCODED}\n"),
    ],
)
def test_untrusted_notes(note):
    with pytest.raises(IntegrityError, match="CHECKPOINT_UNTRUSTED"):
        SIGNER.verifier.open(note)


def test_verifier_keys_that_are_not_whole():
    text = SIGNER.verifier.serialise()
    assert LogVerifier.parse(f" {text}\n") == SIGNER.verifier
    other = LogVerifier("finsecure.other/audit", SIGNER.verifier.public).serialise()
    name, key_id, key = text.split("+", 2)
    for bad in (
        *("", "+", "++", text[:-1], text + "A", text.replace("audit", "audit2")),
        *(f"{name}+{key_id}", f"{name}+{key_id}+{key[4:]}", f"{name}+{key_id}+!{key[1:]}"),
        f"{name}+{other.split('+', 2)[1]}+{key}",
    ):
        with pytest.raises(InvalidArgumentError, match="VERIFIER_KEY_MALFORMED"):
            LogVerifier.parse(bad)


def test_nothing_else_is_signed():
    for size, root in ((-1, ROOT), (2**63, ROOT), (1, ROOT[:-1]), (0, ROOT), (1, EMPTY_ROOT)):
        with pytest.raises(InvalidArgumentError, match="CHECKPOINT_MALFORMED"):
            SIGNER.sign(size, root)
