"""The folder of downloaded global models; nothing is used from it before it is verified again."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import safetensors
import safetensors.numpy
from finsecure_crypto.errors import IntegrityError, PolicyError
from finsecure_crypto.federation import STANDARDISE_MEAN, STANDARDISE_SCALE, check_tensors
from finsecure_crypto.model_statement import architecture_digest
from finsecure_rpc.model_statements import ModelKeys

from finsecure_client.terms import Task
from finsecure_client.trainer import GlobalModel, Standardisation
from finsecure_client.trust import SignedModel, Trust

# Names, shapes and metadata in front of the tensors of a safetensors file, at most.
_HEADER_BYTES = 8 << 20
_KEPT_FILES = 3


class ModelSource(Protocol):
    """Where a model's bytes come from."""

    def download_model(self, name: str, offset: int) -> AsyncIterator[bytes]:
        """Yield the file's bytes from `offset` on."""


class ModelCache:
    """Downloads, keeps and loads model versions.

    Args:
        folder: made if need be.
        trust: verifies signatures.
        model_keys: verifies the statement of a managed key, where the policy insists on one.
    """

    def __init__(self, folder: Path, trust: Trust, model_keys: ModelKeys | None = None) -> None:
        self._folder = folder
        self._trust = trust
        self._model_keys = model_keys

    async def fetch(self, model: SignedModel, task: Task, source: ModelSource) -> GlobalModel:
        """Download a version unless it is here, and load it.

        A download that was cut off goes on where it ended.

        Raises:
            IntegrityError: MODEL_SIGNATURE_REJECTED, MODEL_DIGEST_MISMATCH, MODEL_MALFORMED, or
                what `ModelKeys` raises.
            AuthenticationError: where the signer is not the federation's aggregator.
            PolicyError: MODEL_TOO_LARGE.
            InvalidArgumentError: where the tensors are not those of the task.
        """
        if self._model_keys is not None:
            await self._model_keys.prepare(model.envelope)
        self._check_signatures(model, task)
        self._check_size(model, task)
        path = self._path(model)
        if not path.exists():
            await self._download(model, source)
            self._prune(path)
        return await asyncio.to_thread(self.load, model, task)

    def load(self, model: SignedModel, task: Task) -> GlobalModel:
        """Load a version from the folder, after verifying signature and digest once more.

        Raises:
            As `fetch`; a file with another digest is removed, so that the next fetch gets it anew.
        """
        self._check_signatures(model, task)
        path = self._path(model)
        content = path.read_bytes()
        # The bytes that are hashed are the bytes that are parsed: the file is not read again.
        if hashlib.sha256(content).digest() != model.version.sha256:
            path.unlink()
            raise _mismatch(model)
        try:
            tensors = safetensors.numpy.load(content)
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise IntegrityError(
                "MODEL_MALFORMED",
                f"{model.version.name} is no safetensors file ({type(error).__name__})",
            ) from error
        check_tensors(task.terms, tensors)
        standardisation = None
        if STANDARDISE_MEAN in tensors:
            standardisation = Standardisation(tensors[STANDARDISE_MEAN], tensors[STANDARDISE_SCALE])
            if not (standardisation.scale > 0).all():
                raise IntegrityError(
                    "MODEL_MALFORMED", f"{model.version.name} has a scale that is not positive"
                )
        return GlobalModel(
            version=model.version.version,
            sha256=model.version.sha256,
            tensors={tensor.name: tensors[tensor.name] for tensor in task.terms.tensors},
            standardisation=standardisation,
        )

    def _check_signatures(self, model: SignedModel, task: Task) -> None:
        self._trust.check_model(model)
        if self._model_keys is not None:
            tensors = [(tensor.name, tensor.shape) for tensor in task.terms.tensors]
            architecture = architecture_digest(task.factory, tensors)
            self._model_keys.verify(model.envelope, model.version, architecture)

    def _path(self, model: SignedModel) -> Path:
        return self._folder / f"{model.version.sha256.hex()}.safetensors"

    def _check_size(self, model: SignedModel, task: Task) -> None:
        numbers = task.terms.coordinates + 2 * task.terms.numeric_features
        if model.version.size_bytes > 4 * numbers + _HEADER_BYTES:
            raise PolicyError(
                "MODEL_TOO_LARGE",
                f"{model.version.name} has {model.version.size_bytes} bytes, more than the task's "
                f"{numbers} float32 numbers need",
            )

    async def _download(self, model: SignedModel, source: ModelSource) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(model)
        part = path.with_suffix(".part")
        size = model.version.size_bytes
        with part.open("ab") as stream:
            if stream.tell() > size:
                stream.truncate(0)
            if stream.tell() < size:
                async for content in source.download_model(model.version.name, stream.tell()):
                    if stream.tell() + len(content) > size:
                        break  # the digest below refuses it
                    stream.write(content)
            complete = stream.tell() == size
        await asyncio.to_thread(self._accept, part, complete, model)

    def _accept(self, part: Path, complete: bool, model: SignedModel) -> None:
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").digest()
        if not complete or digest != model.version.sha256:
            part.unlink()
            raise _mismatch(model)
        part.replace(self._path(model))

    def _prune(self, newest: Path) -> None:
        files = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
        for path in files[:-_KEPT_FILES]:
            if path != newest:
                path.unlink(missing_ok=True)


def _mismatch(model: SignedModel) -> IntegrityError:
    return IntegrityError(
        "MODEL_DIGEST_MISMATCH",
        f"the file of {model.version.name} does not have the signed SHA-256; it was not used and "
        "is fetched anew next time",
    )
