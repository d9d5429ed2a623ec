"""Part files and the accumulator that reads them."""

import hashlib
import zlib

import numpy as np
import pytest
from finsecure_aggregator.accumulator import Accumulator
from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.records import RoundKey
from finsecure_aggregator.slices import LocalSlices
from finsecure_crypto.errors import FinSecureError, IntegrityError, ResourceExhaustedError
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.secret import SecretBytes

KEY = RoundKey("federations/lending/tasks/credit", 1, 1)
CONTENT = bytes(range(256)) * 40


def open_part(blobs, content=CONTENT):
    return blobs.open_input(KEY, "bank-a", len(content), hashlib.sha256(content).digest())


def append(part, start, end, content=CONTENT):
    piece = content[start:end]
    part.append(start, piece, zlib.crc32(piece))


@pytest.fixture
def blobs(tmp_path):
    return Blobs(tmp_path / "blobs")


def test_a_part_is_resumed_and_finished(blobs):
    part = open_part(blobs)
    append(part, 0, 1000)
    part.close()
    assert blobs.committed_input(KEY, "bank-a") == 1000
    part = open_part(blobs)
    assert (part.length, part.whole) == (1000, False)
    append(part, 1000, len(CONTENT))
    assert part.whole
    assert part.finish().read_bytes() == CONTENT
    assert blobs.committed_input(KEY, "bank-a") == len(CONTENT)
    # Whole, but not accepted before a crash: it opens again, and finishes again.
    assert open_part(blobs).finish().read_bytes() == CONTENT
    blobs.drop_inputs(KEY)
    assert blobs.committed_input(KEY, "bank-a") == 0


@pytest.mark.parametrize(
    ("code", "offset", "content", "crc"),
    [
        ("CHUNK_OFFSET", 999, b"x", zlib.crc32(b"x")),
        ("CHUNK_OFFSET", 1001, b"x", zlib.crc32(b"x")),
        ("CHUNK_CORRUPT", 1000, b"x", zlib.crc32(b"y")),
        ("UPLOAD_TOO_LONG", 1000, bytes(len(CONTENT)), 0),
    ],
)
def test_a_bad_chunk_changes_nothing(blobs, code, offset, content, crc):
    part = open_part(blobs)
    append(part, 0, 1000)
    with pytest.raises(IntegrityError) as failure:
        part.append(offset, content, crc)
    assert failure.value.code == code
    append(part, 1000, len(CONTENT))
    assert part.finish().read_bytes() == CONTENT


def test_a_whole_with_another_digest_starts_anew(blobs):
    part = open_part(blobs)
    other = bytes(len(CONTENT))
    part.append(0, other, zlib.crc32(other))
    with pytest.raises(IntegrityError) as failure:
        part.finish()
    assert failure.value.code == "UPLOAD_DIGEST_MISMATCH"
    assert blobs.committed_input(KEY, "bank-a") == 0
    append(part, 0, len(CONTENT))
    assert part.finish().read_bytes() == CONTENT


def test_only_the_inputs_of_open_rounds_survive_a_restart(blobs, tmp_path):
    other = RoundKey(KEY.task, 2, 1)
    open_part(blobs).close()
    blobs.open_input(other, "bank-a", 8, bytes(32)).close()
    Blobs(tmp_path / "blobs").keep_inputs_of(frozenset({other}))
    assert not blobs.input_path(KEY, "bank-a").parent.exists()
    assert blobs.input_path(other, "bank-a").parent.exists()


def test_a_full_disk_says_so(blobs, monkeypatch):
    part = open_part(blobs)

    def full(_: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(part, "_file", type("Full", (), {"write": staticmethod(full)})())
    with pytest.raises(ResourceExhaustedError) as failure:
        append(part, 0, 10)
    assert failure.value.code == "STORAGE_FAILED"
    assert "No space left" in failure.value.message


def test_missing_files_are_named(blobs):
    with pytest.raises(FinSecureError) as failure:
        blobs.read(KEY.task, "3.safetensors")
    assert failure.value.code == "BLOB_MISSING"


@pytest.mark.parametrize("words", [1, 2, 7, 1000, 300_001])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_accumulator_equals_a_plain_sum_modulo_2_to_the_64(tmp_path, words, threads):
    rng = np.random.default_rng(words)
    accumulator, total = Accumulator(words, LocalSlices(threads), 1), np.zeros(words, np.uint64)
    for number in range(3):
        vector = rng.integers(0, 2**64, words, np.uint64)
        total += vector
        path = tmp_path / f"{number}.words"
        path.write_bytes(vector.astype("<u8").tobytes())
        accumulator.add_input(path)
    masks = [(SecretBytes(bytes([n]) * 16), sign) for n, sign in ((1, 1), (2, -1))]
    apply_masks(total, masks)
    np.testing.assert_array_equal(accumulator.unmask(masks), total)


@pytest.mark.parametrize("size", [0, 79, 72, 88])
def test_the_accumulator_refuses_a_file_of_another_size(tmp_path, size):
    path = tmp_path / "short.words"
    path.write_bytes(b"\1" * size)
    accumulator = Accumulator(10, LocalSlices(2), 1)
    with pytest.raises(IntegrityError) as failure:
        accumulator.add_input(path)
    assert failure.value.code == "BLOB_TRUNCATED"
    assert not accumulator.unmask([]).any()
