"""The transcript encoding agrees with its vectors and refuses what it cannot keep apart."""

import pytest
from finsecure_crypto import transcript
from finsecure_crypto.errors import InvalidArgumentError

from tests.support.crypto import vectors
from tests.vectors.transcript.generate import content

VECTORS = vectors("transcript")
READ = {"bytes": bytes.fromhex, "text": str, "integer": int}


def parts_of(case):
    return [READ[kind](value) for part in case["parts"] for kind, value in part.items()]


@pytest.mark.parametrize("case", VECTORS["valid"])
def test_vectors(case):
    assert transcript.encode(case["label"], *parts_of(case)).hex() == case["encoding"]
    assert transcript.digest(case["label"], *parts_of(case)).hex() == case["digest"]


def test_vectors_are_all_different():
    assert len({case["digest"] for case in VECTORS["valid"]}) == len(VECTORS["valid"])


def test_vectors_are_what_the_generator_writes():
    assert content() == VECTORS


@pytest.mark.parametrize("part", [-1, True, False, None, 1.0, bytearray(b"x"), [b"x"], "\ud800"])
def test_refuses_other_parts(part):
    with pytest.raises(InvalidArgumentError) as caught:
        transcript.encode("context", part)
    assert caught.value.code == "TRANSCRIPT_PART"


@pytest.mark.parametrize("label", ["", "größe"])
def test_refuses_labels(label):
    with pytest.raises(InvalidArgumentError):
        transcript.encode(label)
