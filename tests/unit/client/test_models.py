import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from finsecure_client.models import ModelCache
from finsecure_client.trust import SignedModel, Trust
from finsecure_crypto.errors import FinSecureError, IntegrityError, UnavailableError
from finsecure_crypto.federation import STANDARDISE_MEAN, STANDARDISE_SCALE
from finsecure_crypto.model_statement import (
    ModelStatement,
    VerificationKey,
    architecture_digest,
)
from finsecure_crypto.model_version import ModelVersion
from finsecure_crypto.signatures import SignatureAlgorithm, SoftwareSigner
from finsecure_rpc.identity_store import Identity
from finsecure_rpc.model_statements import ModelKeys

from tests.support.client import TASK, make_task
from tests.support.pki import TestAuthority

TENSORS = {"weight": np.ones((1, 4), np.float32), "bias": np.zeros(1, np.float32)}


class Source:
    """Serves bytes, perhaps not all of them."""

    def __init__(self, content: bytes, stop_after: int | None = None) -> None:
        self.content = content
        self.stop_after = stop_after
        self.offsets: list[int] = []

    async def download_model(self, name: str, offset: int) -> AsyncIterator[bytes]:
        self.offsets.append(offset)
        for start in range(offset, len(self.content), 50):
            if self.stop_after is not None and start >= self.stop_after:
                self.stop_after = None
                raise UnavailableError("SERVICE_UNREACHABLE", "gone")
            yield self.content[start : start + 50]


class Setting:
    def __init__(self, folder: Path) -> None:
        pki = TestAuthority()
        self.signer: Identity = pki.enrol(folder / "aggregator", "aggregator", "main").current()
        self.folder = folder / "models"
        self.trust = Trust("lending.finsecure.internal", lambda: pki.anchors, pki.current)
        self.cache = ModelCache(self.folder, self.trust)

    def sign(self, content: bytes, version: int = 0, size: int | None = None) -> SignedModel:
        described = ModelVersion(
            f"{TASK}/models/{version}",
            version,
            hashlib.sha256(content).digest(),
            len(content) if size is None else size,
            b"",
            "",
            int(datetime.now(UTC).timestamp() * 1e9),
        )
        signature = described.sign(self.signer.signing_key)
        return SignedModel(described, signature, self.signer.signing_certificate)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


async def test_fetch_once_and_load(setting: Setting) -> None:
    moments = {
        STANDARDISE_MEAN: np.full(2, 0.5, np.float32),
        STANDARDISE_SCALE: np.full(2, 2, np.float32),
    }
    content = safetensors.numpy.save(TENSORS | moments)
    model, source = setting.sign(content, 4), Source(content)
    for _ in range(2):
        loaded = await setting.cache.fetch(model, make_task(), source)
        assert loaded.version == 4
        assert list(loaded.tensors) == ["weight", "bias"]
        assert np.array_equal(loaded.tensors["weight"], TENSORS["weight"])
        assert loaded.standardisation is not None
        assert loaded.standardisation.scale.tolist() == [2, 2]
    assert source.offsets == [0]


async def test_download_goes_on_where_it_was_cut(setting: Setting) -> None:
    content = safetensors.numpy.save(TENSORS)
    model, source = setting.sign(content), Source(content, stop_after=100)
    with pytest.raises(UnavailableError):
        await setting.cache.fetch(model, make_task(), source)
    await setting.cache.fetch(model, make_task(), source)
    assert source.offsets == [0, 100]


async def test_file_that_was_changed_on_disk(setting: Setting) -> None:
    content = safetensors.numpy.save(TENSORS)
    model, source = setting.sign(content), Source(content)
    await setting.cache.fetch(model, make_task(), source)
    (path,) = setting.folder.iterdir()
    path.write_bytes(content[:-1] + b"\x01")
    with pytest.raises(IntegrityError) as caught:
        setting.cache.load(model, make_task())
    assert caught.value.code == "MODEL_DIGEST_MISMATCH"
    await setting.cache.fetch(model, make_task(), source)
    assert source.offsets == [0, 0]


@pytest.mark.parametrize("served", ["shorter", "longer", "other"])
async def test_other_bytes_than_the_signed_ones(setting: Setting, served: str) -> None:
    content = safetensors.numpy.save(TENSORS)
    given = {"shorter": content[:-1], "longer": content + b"x", "other": bytes(len(content))}
    with pytest.raises(IntegrityError) as caught:
        await setting.cache.fetch(setting.sign(content), make_task(), Source(given[served]))
    assert caught.value.code == "MODEL_DIGEST_MISMATCH"
    assert list(setting.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({"weight": np.ones((4, 1), np.float32), "bias": TENSORS["bias"]}, "MODEL_SHAPE_MISMATCH"),
        ({"weight": np.ones((1, 4)), "bias": TENSORS["bias"]}, "MODEL_DTYPE_MISMATCH"),
        ({"weight": TENSORS["weight"]}, "MODEL_TENSORS_MISMATCH"),
        (TENSORS | {"more": np.ones(1, np.float32)}, "MODEL_TENSORS_MISMATCH"),
        ({"weight": TENSORS["weight"] * np.inf, "bias": TENSORS["bias"]}, "VALUE_NOT_FINITE"),
        (
            TENSORS
            | {
                STANDARDISE_MEAN: np.zeros(2, np.float32),
                STANDARDISE_SCALE: np.zeros(2, np.float32),
            },
            "MODEL_MALFORMED",
        ),
    ],
)
async def test_signed_file_with_the_wrong_tensors(
    setting: Setting, tensors: dict[str, np.ndarray], code: str
) -> None:
    content = safetensors.numpy.save(tensors)
    with pytest.raises(FinSecureError) as caught:
        await setting.cache.fetch(setting.sign(content), make_task(), Source(content))
    assert caught.value.code == code


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 8, b"\x08" + bytes(7) + b"notjson!"])
async def test_signed_file_that_is_no_safetensors(setting: Setting, content: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        await setting.cache.fetch(setting.sign(content), make_task(), Source(content))
    assert caught.value.code == "MODEL_MALFORMED"


async def test_size_is_bounded_before_the_download(setting: Setting) -> None:
    source = Source(b"")
    with pytest.raises(FinSecureError) as caught:
        await setting.cache.fetch(setting.sign(b"x", size=1 << 30), make_task(), source)
    assert caught.value.code == "MODEL_TOO_LARGE"
    assert source.offsets == []


async def test_only_the_newest_files_are_kept(setting: Setting) -> None:
    for number in range(6):
        content = safetensors.numpy.save(TENSORS | {"bias": np.full(1, number, np.float32)})
        await setting.cache.fetch(setting.sign(content, number), make_task(), Source(content))
    assert len(list(setting.folder.iterdir())) == 3


KEY = "federations/lending/keyRings/models/cryptoKeys/global"
VERSION = f"{KEY}/cryptoKeyVersions/1"


class PinnedKeys(ModelKeys):
    """A key service that knows one version."""

    def __init__(self, signer: SoftwareSigner) -> None:
        super().__init__(lambda: pytest.fail("nothing is fetched"), KEY)
        self.known = VerificationKey(signer.algorithm, signer.public_key)

    async def _fetch(self, name: str) -> VerificationKey:
        assert name == VERSION
        return self.known


async def test_a_pinned_key_has_to_have_signed_too(setting: Setting, tmp_path: Path) -> None:
    signer = SoftwareSigner.generate(SignatureAlgorithm.ED25519)
    cache = ModelCache(tmp_path / "pinned", setting.trust, PinnedKeys(signer))
    content, task = safetensors.numpy.save(TENSORS), make_task()
    model, source = setting.sign(content), Source(content)
    tensors = [(tensor.name, tensor.shape) for tensor in task.terms.tensors]
    architecture = architecture_digest(task.factory, tensors)
    statement = ModelStatement(model.version, architecture, b"c" * 32)
    other = replace(model.version, sha256=b"x" * 32)
    stranger = SoftwareSigner.generate(SignatureAlgorithm.ED25519)
    for envelope, code in (
        (b"", "ENVELOPE_MISSING"),
        (b"{}", "ENVELOPE_MALFORMED"),
        (statement.sign(signer, "another key").encode(), "MODEL_STATEMENT_REJECTED"),
        (statement.sign(stranger, VERSION).encode(), "MODEL_STATEMENT_REJECTED"),
        (
            replace(statement, version=other).sign(signer, VERSION).encode(),
            "MODEL_STATEMENT_MISMATCH",
        ),
        (
            replace(statement, architecture=b"x" * 32).sign(signer, VERSION).encode(),
            "MODEL_STATEMENT_MISMATCH",
        ),
    ):
        with pytest.raises(IntegrityError, match=code):
            await cache.fetch(replace(model, envelope=envelope), task, source)
    assert source.offsets == []  # nothing was downloaded
    good = replace(model, envelope=statement.sign(signer, VERSION).encode())
    assert (await cache.fetch(good, task, source)).sha256 == model.version.sha256
    with pytest.raises(IntegrityError, match="ENVELOPE_MISSING"):
        cache.load(model, task)  # every load, not the first alone
