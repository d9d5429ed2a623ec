"""Between the wire's messages of audited sums and the aggregator's own types."""

from collections.abc import Sequence

from finsecure.aggregation.v1 import sums_pb2, tasks_pb2
from finsecure_crypto.homomorphic.decryption import Contribution
from finsecure_crypto.homomorphic.sums import SumTerms

from finsecure_aggregator.sums.plan import SumPlan
from finsecure_aggregator.sums.records import SumRecord, SumStatus
from finsecure_aggregator.wire.times import nanoseconds, timestamp


def spec_bytes(spec: sums_pb2.SumSpec) -> bytes:
    """Serialise a specification the way that its digest is taken over."""
    return spec.SerializeToString(deterministic=True)


def plan(name: str, spec: bytes) -> SumPlan:
    """Read a serialised SumSpec.

    Raises:
        InvalidArgumentError: what `SumTerms` refuses, or DURATION_MALFORMED.
    """
    proto = sums_pb2.SumSpec.FromString(spec)
    return SumPlan(
        name=name,
        spec=spec,
        terms=SumTerms(
            labels=tuple(proto.labels),
            maximum=proto.maximum,
            minimum_contributors=proto.minimum_contributors,
            maximum_contributors=proto.maximum_contributors,
            key_name=proto.encryption_key,
        ),
        collecting_ns=nanoseconds(proto.collecting),
        opening_ns=nanoseconds(proto.opening),
    )


def sum_(status: SumStatus) -> sums_pb2.Sum:
    """Make the wire's form of a sum."""
    proto = _described(status.record)
    proto.spec.ParseFromString(status.record.spec)
    proto.contributors.extend(each.client for each in status.manifest)
    proto.excluded.extend(
        sums_pb2.ExcludedContributor(client=each.client, reason=each.reason)
        for each in status.record.excluded
    )
    proto.totals.extend(status.record.totals or ())
    return proto


def listed(records: Sequence[SumRecord]) -> list[sums_pb2.Sum]:
    """Make the wire's form of sums in a list: without labels, totals and contributors."""
    protos = []
    for record in records:
        proto = _described(record)
        proto.spec.ParseFromString(record.spec)
        proto.spec.ClearField("labels")
        protos.append(proto)
    return protos


def _described(record: SumRecord) -> sums_pb2.Sum:
    proto = sums_pb2.Sum(
        name=record.name,
        creator=record.creator,
        state=sums_pb2.SumState.Value(f"SUM_STATE_{record.state.name}"),
        reason=record.reason,
        detail=record.detail,
        contributions=record.contributions,
        trustees=[
            tasks_pb2.TrusteeAnswer(holder=each.holder, trustee=each.trustee, reason=each.reason)
            for each in record.trustees
        ],
        nonce=record.nonce,
        key_digest=record.key_digest,
        contribution_bytes=record.input_bytes,
        create_time=timestamp(record.create_ns),
        collecting_deadline=timestamp(record.collecting_ns),
    )
    if record.opening_ns is not None:
        proto.opening_deadline.CopyFrom(timestamp(record.opening_ns))
    if record.end_ns is not None:
        proto.end_time.CopyFrom(timestamp(record.end_ns))
    return proto


def contribution(client: str, sha256: bytes, request: sums_pb2.ContributeRequest) -> Contribution:
    """Read who signed what of a contribution."""
    return Contribution(client, sha256, request.signature, request.certificate)
