"""The terms of a task from its specification on the wire, the same for owner and member."""

from finsecure.aggregation.v1 import tasks_pb2
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.federation import Encryption, Masking, Tensor, Terms
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.secagg.parameters import Profile, SparseGraph

_PROFILES = {
    tasks_pb2.SECURITY_PROFILE_ACTIVE: Profile.ACTIVE,
    tasks_pb2.SECURITY_PROFILE_SEMI_HONEST: Profile.SEMI_HONEST,
}
_MODES = {
    tasks_pb2.PROTECTION_PAILLIER: Mode.PAILLIER,
    tasks_pb2.PROTECTION_BGV: Mode.BGV,
    tasks_pb2.PROTECTION_CKKS: Mode.CKKS,
}


def terms_of(spec: tasks_pb2.TaskSpec) -> Terms:
    """Read the terms of a specification that satisfies the wire contract.

    Raises:
        InvalidArgumentError: PROTECTION_MIXED or what a field's type refuses; the fault of whoever
            wrote the specification.
    """
    encoding = spec.encoding
    return Terms(
        tensors=tuple(Tensor(t.name, tuple(t.shape)) for t in spec.model.tensors),
        numeric_features=sum(f.WhichOneof("kind") == "numeric" for f in spec.features.features),
        weight_cap=spec.cohort.weight_cap,
        value_bits=encoding.value_bits,
        clip_norm=encoding.clip_norm,
        clip_value=encoding.clip_value,
        score_bins=encoding.score_bins,
        minimum_cohort=spec.cohort.minimum,
        protection=_protection(spec.security),
    )


def _protection(security: tasks_pb2.SecuritySpec) -> Masking | Encryption:
    mode = _MODES.get(security.protection)
    sparse = security.sparse_graph if security.HasField("sparse_graph") else None
    if mode is not None:
        if security.profile or sparse is not None or not security.encryption_key:
            raise _mixed("an encryption mode needs encryption_key, and no profile or sparse_graph")
        return Encryption(mode, security.encryption_key)
    if security.profile not in _PROFILES or security.encryption_key:
        raise _mixed("masks need a profile, and no encryption_key")
    return Masking(
        _PROFILES[security.profile],
        SparseGraph(sparse.corrupt_fraction, sparse.dropout_fraction) if sparse else None,
    )


def _mixed(rule: str) -> InvalidArgumentError:
    return InvalidArgumentError("PROTECTION_MIXED", f"the task's security does not fit: {rule}")
