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
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
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
from finsecure_crypto.signing import SigningKey
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from finsecure_aggregator.blobs import CHUNK_BYTES, Blobs
from finsecure_aggregator.optimizer import OptimizerKind
from finsecure_aggregator.plan import Plan
from finsecure_aggregator.quarantine import Quarantine
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
    """Makes and reads model versions, apart from those in quarantine."""

    def __init__(self, blobs: Blobs, signers: SignerSource, quarantine: Quarantine) -> None:
        self._blobs = blobs
        self._signers = signers
        self._quarantine = quarantine

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
            StateError: MODEL_QUARANTINED.
        """
        self._quarantine.require_free(record)
        content = self._blobs.read(record.task, _file(record.version))
        if hashlib.sha256(content).digest() != record.sha256:
            raise _damaged(record)
        return load(content)

    def check(self, record: ModelRecord) -> None:
        """Read a version whole, whether it is in quarantine or not.

        Raises:
            IntegrityError: MODEL_DAMAGED if the file is not the one that was signed;
                MODEL_SIGNATURE_REJECTED if the record is not.
            NotFoundError: BLOB_MISSING.
        """
        digest, offset = hashlib.sha256(), 0
        while piece := self._blobs.read(
            record.task, _file(record.version), offset=offset, size=CHUNK_BYTES
        ):
            digest.update(piece)
            offset += len(piece)
        if offset != record.size_bytes or digest.digest() != record.sha256:
            raise _damaged(record)
        if not _is_genuine(record):
            raise IntegrityError(
                "MODEL_SIGNATURE_REJECTED",
                f"the record of {record.name} is not the one that was signed; restore the database",
            )

    def require_free(self, record: ModelRecord) -> None:
        """Refuse a version that is in quarantine; StateError MODEL_QUARANTINED."""
        self._quarantine.require_free(record)

    def quarantined(self, record: ModelRecord) -> str:
        """Reason code for which a version is in quarantine; empty if it is not."""
        return self._quarantine.reason(record)

    def piece(self, record: ModelRecord, offset: int, size: int) -> bytes:
        """Read some bytes of a version's file.

        Raises:
            StateError: MODEL_QUARANTINED.
        """
        self._quarantine.require_free(record)
        return self._blobs.read(record.task, _file(record.version), offset=offset, size=size)

    def refreshed(self, record: ModelRecord) -> ModelRecord:
        """Give the record with a signature whose certificate is in date.

        Certificates live for hours and models for years: a record that was signed under an older
        certificate is signed again with the present key when it is handed out. One whose signature
        no longer fits is handed out as it is, so that whoever gets it refuses it.
        """
        signer = self._signers.current()
        if record.certificate == signer.signing_certificate or not _is_genuine(record):
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
        return replace(
            record,
            signature=record.described.sign(signer.signing_key),
            certificate=signer.signing_certificate,
        )

    def _write_state(self, plan: Plan, version: int, state: Mapping[str, Any]) -> None:
        if plan.optimizer.kind is not OptimizerKind.AVERAGE:
            self._blobs.write(plan.name, _state_file(version), save(dict(state)))

    def _read_state(self, plan: Plan, version: int) -> dict[str, Any]:
        if plan.optimizer.kind is OptimizerKind.AVERAGE:
            return {}
        return load(self._blobs.read(plan.name, _state_file(version)))


def _is_genuine(record: ModelRecord) -> bool:
    """Whether a record fits its signature; whose that is, those who use the model check."""
    try:
        key = x509.load_der_x509_certificate(record.certificate).public_key()
        if not isinstance(key, Ed25519PublicKey):
            return False
        record.described.verify(key.public_bytes_raw(), record.signature)
    except (IntegrityError, ValueError):
        return False
    return True


def _damaged(record: ModelRecord) -> IntegrityError:
    return IntegrityError(
        "MODEL_DAMAGED",
        f"the file of {record.name} does not match its SHA-256; the aggregator's operator has to "
        "restore it from a backup",
    )


def _file(version: int) -> str:
    return f"{version}.safetensors"


def _state_file(version: int) -> str:
    return f"{version}.optimizer"
