"""Messages of audited sums to and from this client's types; all that comes in is checked."""

from collections.abc import Sequence

from finsecure.aggregation.v1 import sums_pb2
from finsecure_crypto.errors import FinSecureError, ProtocolViolationError
from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.homomorphic.sums import SumTerms
from finsecure_rpc.status import InvalidMessageError
from finsecure_rpc.validation import check_message
from google.protobuf.duration_pb2 import Duration

from finsecure_client.sums.terms import AuditedSum, SumSummary

_PREFIX = "SUM_STATE_"


def audited_sum(message: sums_pb2.Sum) -> AuditedSum:
    """Read a sum.

    Raises:
        ProtocolViolationError: MESSAGE_INVALID; the aggregator's fault.
    """
    try:
        check_message(message)
        spec = message.spec
        terms = SumTerms(
            labels=tuple(spec.labels),
            maximum=spec.maximum,
            minimum_contributors=spec.minimum_contributors,
            maximum_contributors=spec.maximum_contributors,
            key_name=spec.encryption_key,
        )
        found = AuditedSum(
            **vars(summary(message)),
            spec=spec.SerializeToString(deterministic=True),
            terms=terms,
            nonce=message.nonce,
            key_digest=message.key_digest,
            reason=message.reason,
            detail=message.detail,
            contributors=tuple(message.contributors),
            excluded={each.client: each.reason for each in message.excluded},
            totals=_totals(message),
        )
        found.binding()
    except InvalidMessageError as error:
        raise _violation(f"a sum against the contract: {error.message}") from error
    except FinSecureError as error:
        raise _violation(f"an impossible sum: {error.message}") from error
    return found


def summary(message: sums_pb2.Sum) -> SumSummary:
    """Read what a list says of a sum."""
    state = sums_pb2.SumState.Name(message.state) if message.state in _STATES else _PREFIX
    return SumSummary(
        name=message.name,
        description=message.spec.description,
        creator=message.creator,
        state=state.removeprefix(_PREFIX).lower(),
        contributions=message.contributions,
    )


_STATES = frozenset(sums_pb2.SumState.values())


def _totals(message: sums_pb2.Sum) -> dict[str, int] | None:
    if message.state != sums_pb2.SUM_STATE_OPENED:
        return None
    most = message.spec.maximum * message.contributions
    if len(message.totals) != len(message.spec.labels) or any(t > most for t in message.totals):
        raise _violation("totals that do not fit to their sum")
    return dict(zip(message.spec.labels, message.totals, strict=True))


def spec(
    terms: SumTerms, description: str, collecting_s: float, opening_s: float
) -> sums_pb2.SumSpec:
    """Make the specification of a new sum."""
    return sums_pb2.SumSpec(
        description=description,
        labels=terms.labels,
        maximum=terms.maximum,
        minimum_contributors=terms.minimum_contributors,
        maximum_contributors=terms.maximum_contributors,
        encryption_key=terms.key_name,
        collecting=_duration(collecting_s),
        opening=_duration(opening_s),
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def contribution(
    name: str, header: EncryptedInputHeader, ciphertexts: bytes
) -> sums_pb2.ContributeRequest:
    """Make the message of a contribution."""
    return sums_pb2.ContributeRequest(
        sum=name,
        ciphertexts=ciphertexts,
        signature=header.signature,
        certificate=header.certificate,
    )


def summaries(messages: Sequence[sums_pb2.Sum]) -> list[SumSummary]:
    """Read a list of sums."""
    return [summary(message) for message in messages]


def _violation(what: str) -> ProtocolViolationError:
    return ProtocolViolationError("MESSAGE_INVALID", f"the aggregator sent {what}")
