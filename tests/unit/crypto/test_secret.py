"""A secret leaves through expose() and through nothing else."""

import copy
import json
import pickle  # noqa: TID251 - to show that it does not work on a secret
import traceback

import numpy as np
import pytest
from finsecure_crypto import aead, agreement, masking, shamir
from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signing import SigningKey

from tests.support.crypto import replay

VALUE = b"hunter2-hunter2-hunter2-hunter2!"
POINTS = np.arange(1, 4, dtype=np.uint32)
TRACES = ["hunter2", VALUE.hex(), VALUE.hex()[:16], str(list(VALUE))[1:30]]


def assert_redacted(text):
    assert not any(trace in text for trace in TRACES)


def test_exposes_its_bytes():
    assert SecretBytes(VALUE).expose() == VALUE
    assert SecretBytes(bytearray(VALUE)).expose() == VALUE
    assert len(SecretBytes(VALUE)) == 32


def test_compares_by_value_with_secrets_only():
    assert SecretBytes(VALUE) == SecretBytes(VALUE)
    assert SecretBytes(VALUE) != SecretBytes(VALUE[:-1] + b"?")
    assert SecretBytes(VALUE) != SecretBytes(VALUE[:-1])
    assert SecretBytes(VALUE) != VALUE


@pytest.mark.parametrize("form", [repr, str, "{}".format, "{!r:>80}".format, lambda s: f"{[s]}"])
def test_text_forms_are_redacted(form):
    assert form(SecretBytes(VALUE)).count("SecretBytes(<32 bytes>)") == 1
    assert_redacted(form(SecretBytes(VALUE)))


@pytest.mark.parametrize(
    "leak", [hash, bytes, iter, pickle.dumps, json.dumps, lambda s: b"" + s, lambda s: s[0]]
)
def test_nothing_else_reads_it(leak):
    with pytest.raises(TypeError) as caught:
        leak(SecretBytes(VALUE))
    assert_redacted(str(caught.value))


def test_copies_are_the_secret_itself():
    secret = SecretBytes(VALUE)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


@pytest.mark.parametrize(
    "holder", [agreement.KeyPair.from_seed, SigningKey.from_seed, lambda s: shamir.Decoded(s, (1,))]
)
def test_what_holds_a_secret_is_redacted_too(holder):
    assert_redacted(repr(holder(SecretBytes(VALUE))))


@pytest.mark.parametrize(
    "refused",
    [
        lambda s: agreement.KeyPair.from_seed(SecretBytes(s.expose() + b"x")),
        lambda s: agreement.KeyPair.from_seed(s).exchange(bytes(32)),
        lambda s: agreement.derive(s, b"", b"", 0),
        lambda s: SigningKey.from_seed(SecretBytes(s.expose() + b"x")),
        lambda s: aead.seal(SecretBytes(s.expose()[1:]), s, b""),
        lambda s: aead.open_(s, bytes(40), b""),
        lambda s: masking.apply_masks(np.zeros(4, np.uint64), [(s, 1)]),
        lambda s: shamir.split([s], 9, POINTS),
        lambda s: shamir.split([SecretBytes(s.expose() * 2)], 2, POINTS),
        lambda s: shamir.split([s], 2, POINTS, replay(b"")),
        lambda s: shamir.shares_from_bytes(s.expose() + b"\xff" * 4),
    ],
)
def test_errors_do_not_tell_secrets(refused):
    with pytest.raises(FinSecureError) as caught:
        refused(SecretBytes(VALUE))
    assert_redacted("".join(map(str, caught.value.args)) + repr(caught.value))
    assert_redacted(repr(vars(caught.value)))
    # The chain would print what the library below said of its arguments.
    assert_redacted("".join(traceback.format_exception(caught.value)))
