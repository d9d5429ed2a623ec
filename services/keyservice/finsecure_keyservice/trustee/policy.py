"""Which role may call which method of a trustee, and for how long."""

from types import MappingProxyType

from finsecure_crypto.certificates import Role
from finsecure_rpc.policy import ADMINISTRATORS, Access, Limits, Policy

from finsecure_keyservice.audit.policy import POLICY as AUDIT_POLICY
from finsecure_keyservice.audit.policy import WATCH_EVENTS

_AGGREGATOR: Access = frozenset({Role.AGGREGATOR})
_SERVICE = "/finsecure.keyservice.v1.TrusteeService/"

POLICY: Policy = MappingProxyType(
    {
        **AUDIT_POLICY,
        f"{_SERVICE}PartiallyDecrypt": _AGGREGATOR,
        f"{_SERVICE}GetTrustee": ADMINISTRATORS,
        f"{_SERVICE}AdvanceCeremony": ADMINISTRATORS,
        f"{_SERVICE}ImportShare": ADMINISTRATORS,
        f"{_SERVICE}EndorseKey": ADMINISTRATORS,
    }
)

_HOUR_S = 3600.0

LIMITS = Limits(
    deadlines=MappingProxyType({f"{_SERVICE}PartiallyDecrypt": _HOUR_S, WATCH_EVENTS: _HOUR_S})
)
