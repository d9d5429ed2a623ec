"""Whatever a trustee is sent, in messages, seals or frames, the answer is a named refusal."""

import io

from finsecure.keyservice.v1 import trustee_pb2 as wire
from finsecure_crypto import sealing
from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.trustee import convert, worker
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.trustees import ciphertexts, context_of, contributed, key

IDS = st.sampled_from(("lending", "a", "", "Ä", "../x", "x" * 41))
DIGESTS = st.binary(max_size=40)
NUMBERS = st.integers(0, 2**32 - 1)
NAMES = st.sampled_from(("federations/lending/encryptionKeys/first", "first", ""))
ROUNDS = st.builds(
    wire.RoundSubject,
    task=IDS,
    number=NUMBERS,
    attempt=NUMBERS,
    attempt_nonce=DIGESTS,
    model_digest=DIGESTS,
    task_digest=DIGESTS,
)
COMMON = {
    "federation": IDS,
    "encryption_key": NAMES,
    "key_digest": DIGESTS,
    "minimum_cohort": NUMBERS,
    "maximum_cohort": NUMBERS,
    "layout_digest": DIGESTS,
    "contributions": NUMBERS,
    "size_bytes": st.integers(0, 2**64 - 1),
    "manifest_digest": DIGESTS,
    "total_sha256": DIGESTS,
}
SUMS = st.builds(wire.SumSubject, sum=IDS, nonce=DIGESTS, spec_digest=DIGESTS)


@given(
    st.builds(wire.DecryptionRequest, round=ROUNDS, **COMMON)
    | st.builds(wire.DecryptionRequest, sum=SUMS, **COMMON)
)
def test_impossible_requests_are_named(message: wire.DecryptionRequest) -> None:
    try:
        request = convert.decryption_request(message)
    except FinSecureError:
        return
    assert len(request.digest()) == 32


@given(st.binary(max_size=400))
def test_bytes_that_happen_to_be_a_ceremony_are_one_or_refused(data: bytes) -> None:
    for kind, read in (
        (wire.Ceremony, convert.ceremony),
        (wire.CeremonyMessage, convert.ceremony_message),
        (wire.ImportShareRequest, convert.dealt_share),
    ):
        try:
            read(kind.FromString(data))  # type: ignore[operator]
        except (FinSecureError, DecodeError):
            continue


PAIR = KeyPair.generate()
SEALED = sealing.seal(PAIR.public, SecretBytes(b"a share of a key"), b"context")


@given(st.data())
def test_a_changed_seal_never_opens(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(SEALED) - 1))
    end = at + data.draw(st.integers(0, 3))
    changed = SEALED[:at] + data.draw(st.binary(max_size=3)) + SEALED[end:]
    context = data.draw(st.sampled_from((b"context", b"another")))
    try:
        opened = sealing.open_sealed(PAIR, changed, context)
    except FinSecureError:
        return
    assert (changed, context) == (SEALED, b"context")
    assert opened == SecretBytes(b"a share of a key")


def _frame(operation: bytes, content: bytes) -> bytes:
    return worker.HEADER.pack(operation, len(content)) + content


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_worker_adds_no_changed_input(data: st.DataObject) -> None:
    """No change crashes it; the proof tells a changed ciphertext that is one, too."""
    good = contributed("bank-a")
    at = data.draw(st.integers(0, len(good) - 1))
    end = at + data.draw(st.integers(0, 3))
    changed = good[:at] + data.draw(st.binary(max_size=3)) + good[end:]
    frames = (
        _frame(worker.KEY, b"paillier\0" + key().serialise())
        + _frame(worker.PIECE, changed)
        + _frame(worker.ADD, context_of().input_binding("bank-a"))
        + _frame(worker.TOTAL, b"")
    )
    sink = io.BytesIO()
    worker.serve(io.BytesIO(frames), sink)
    answers = io.BytesIO(sink.getvalue())
    said = []
    while header := answers.read(worker.HEADER.size):
        status, size = worker.HEADER.unpack(header)
        said.append((status, answers.read(size)))
    assert len(said) == 4
    (added, reason), (_, total) = said[2], said[3]
    if changed == good:
        assert (added, total) == (worker.DONE, ciphertexts(good))
    else:
        assert added == worker.REFUSED
        assert reason.split(b"\0")[1] in (
            b"CIPHERTEXT_MALFORMED",
            b"PLAINTEXT_PROOF_MISSING",
            b"PLAINTEXT_PROOF_REJECTED",
        )
