"""Which role may call which method of a trustee, and for how long."""

from types import MappingProxyType

from finsecure_crypto.certificates import Role
from finsecure_rpc.policy import Access, Limits, Policy

_AGGREGATOR: Access = frozenset({Role.AGGREGATOR})
_OPERATOR: Access = frozenset({Role.OPERATOR})
_SERVICE = "/finsecure.keyservice.v1.TrusteeService/"

POLICY: Policy = MappingProxyType(
    {
        f"{_SERVICE}PartiallyDecrypt": _AGGREGATOR,
        f"{_SERVICE}GetTrustee": _OPERATOR,
        f"{_SERVICE}AdvanceCeremony": _OPERATOR,
        f"{_SERVICE}ImportShare": _OPERATOR,
    }
)

_HOUR_S = 3600.0

LIMITS = Limits(deadlines=MappingProxyType({f"{_SERVICE}PartiallyDecrypt": _HOUR_S}))
