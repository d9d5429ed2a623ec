"""Versions of the global model: checked when they come in, stepped by rounds, signed, re-read.

A version is a safetensors file, named by its SHA-256 in a signed record. The state of the server
optimiser lies beside the version that it belongs to. All methods block; they belong off the event
loop.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.federation import (
    STANDARDISE_MEAN,
    STANDARDISE_SCALE,
    StatisticsResult,
    TrainingResult,
    check_tensors,
    flatten,
    unflatten,
)
from finsecure_crypto.model_version import ModelVersion
from finsecure_crypto.signing import SigningKey
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.optimizer import OptimizerKind
from finsecure_aggregator.plan import Plan
from finsecure_aggregator.records import ModelRecord, RoundKey

# Room for the header of a safetensors file: its fixed part, and each tensor's entry.
_HEADER_BYTES = 4096
_ENTRY_BYTES = 2048


class Signer(Protocol):
    """The aggregator's signing identity, as it is now."""

    @property
    def signing_key(self) -> SigningKey:
        """Ed25519 key."""
        ...

    @property
    def signing_certificate(self) -> bytes:
        """Its certificate, DER."""
        ...


class SignerSource(Protocol):
    """Gives the present identity; it changes with each renewal."""

    def current(self) -> Signer:
        """The identity now."""
        ...


def largest_file(plan: Plan) -> int:
    """Most bytes that an initial model of a task can have."""
    return 4 * plan.terms.coordinates + _HEADER_BYTES + _ENTRY_BYTES * len(plan.terms.tensors)


class ModelKeeper:
    """Makes and reads model versions."""

    def __init__(self, blobs: Blobs, signers: SignerSource) -> None:
        self._blobs = blobs
        self._signers = signers

    def first(self, plan: Plan, content: bytes, *, now_ns: int) -> ModelRecord:
        """Check an uploaded initial model and keep it as version 0.

        Raises:
            InvalidArgumentError: MODEL_MALFORMED or what `check_tensors` refuses; the uploader's
                fault.
        """
        try:
            tensors = load(content)
        except (SafetensorError, ValueError, KeyError) as error:
            raise InvalidArgumentError(
                "MODEL_MALFORMED", "the upload is not a safetensors file that can be read"
            ) from error
        check_tensors(plan.terms, tensors, standardised=False)
        self._write_state(plan, 0, plan.optimizer.initial_state(plan.terms.coordinates))
        return self._keep(plan.name, 0, content, parent=None, round_name="", now_ns=now_ns)

    def next(
        self,
        plan: Plan,
        base: ModelRecord,
        result: TrainingResult | StatisticsResult,
        *,
        key: RoundKey,
        now_ns: int,
    ) -> ModelRecord:
        """Make the version that a round's result leads to.

        The same arguments give the same file, so a repetition after a crash changes nothing.

        Raises:
            InvalidArgumentError: VALUE_NOT_FINITE, if the step leaves the range of float32.
        """
        tensors = self.tensors(base)
        version = base.version + 1
        state = self._read_state(plan, base.version)
        if isinstance(result, StatisticsResult):
            tensors |= {STANDARDISE_MEAN: result.mean, STANDARDISE_SCALE: result.scale}
        else:
            parameters, state = plan.optimizer.step(
                flatten(plan.terms, tensors), result.mean_update, state
            )
            with np.errstate(over="ignore"):  # an overflow is refused below
                tensors |= unflatten(plan.terms, parameters)
        check_tensors(plan.terms, tensors)
        self._write_state(plan, version, state)
        return self._keep(
            plan.name, version, save(tensors), parent=base, round_name=key.name, now_ns=now_ns
        )

    def tensors(self, record: ModelRecord) -> dict[str, NDArray[Any]]:
        """Read a version's tensors.

        Raises:
            IntegrityError: MODEL_DAMAGED, if the file is not the one that was signed.
        """
        content = self._blobs.read(record.task, _file(record.version))
        if hashlib.sha256(content).digest() != record.sha256:
            raise IntegrityError(
                "MODEL_DAMAGED",
                f"the file of {record.name} does not match its SHA-256; the aggregator's operator "
                "has to restore it from a backup",
            )
        return load(content)

    def piece(self, record: ModelRecord, offset: int, size: int) -> bytes:
        """Read some bytes of a version's file."""
        return self._blobs.read(record.task, _file(record.version), offset=offset, size=size)

    def refreshed(self, record: ModelRecord) -> ModelRecord:
        """Give the record with a signature whose certificate is in date.

        Certificates live for hours and models for years: a record that was signed under an older
        certificate is signed again with the present key when it is handed out.
        """
        signer = self._signers.current()
        if record.certificate == signer.signing_certificate:
            return record
        return self._signed(record)

    def forget_state(self, task: str, version: int) -> None:
        """Delete the optimiser state of a version from which no round will start again."""
        self._blobs.delete(task, _state_file(version))

    def _keep(
        self,
        task: str,
        version: int,
        content: bytes,
        *,
        parent: ModelRecord | None,
        round_name: str,
        now_ns: int,
    ) -> ModelRecord:
        self._blobs.write(task, _file(version), content)
        return self._signed(
            ModelRecord(
                task=task,
                version=version,
                sha256=hashlib.sha256(content).digest(),
                size_bytes=len(content),
                parent_sha256=parent.sha256 if parent else b"",
                round=round_name,
                create_ns=now_ns,
                signature=b"",
                certificate=b"",
            )
        )

    def _signed(self, record: ModelRecord) -> ModelRecord:
        signer = self._signers.current()
        statement = ModelVersion(
            name=record.name,
            version=record.version,
            sha256=record.sha256,
            size_bytes=record.size_bytes,
            parent_sha256=record.parent_sha256,
            round=record.round,
            create_time_ns=record.create_ns,
        )
        return replace(
            record,
            signature=statement.sign(signer.signing_key),
            certificate=signer.signing_certificate,
        )

    def _write_state(self, plan: Plan, version: int, state: Mapping[str, Any]) -> None:
        if plan.optimizer.kind is not OptimizerKind.AVERAGE:
            self._blobs.write(plan.name, _state_file(version), save(dict(state)))

    def _read_state(self, plan: Plan, version: int) -> dict[str, Any]:
        if plan.optimizer.kind is OptimizerKind.AVERAGE:
            return {}
        return load(self._blobs.read(plan.name, _state_file(version)))


def _file(version: int) -> str:
    return f"{version}.safetensors"


def _state_file(version: int) -> str:
    return f"{version}.optimizer"
