"""Which role may call which method. What is not listed, nobody may call."""

from types import MappingProxyType

from finsecure_crypto.certificates import Role
from finsecure_rpc.policy import ANYONE, Access, Policy

_OPERATORS: Access = frozenset({Role.OPERATOR})
_MEMBERS: Access = frozenset({Role.CLIENT, Role.AGGREGATOR, Role.TRUSTEE, Role.OPERATOR})

_ACCESS: dict[str, dict[str, Access]] = {
    "EnrolmentService": {
        "GetTrustBundle": ANYONE,
        "Enrol": ANYONE,  # its API key authenticates
        "RenewCertificates": _MEMBERS,
    },
    "CertificateService": {
        "ListCertificates": _OPERATORS,
        "RevokeCertificate": _OPERATORS,
        "GetRevocationList": _MEMBERS,
        "WatchRevocationList": _MEMBERS,
    },
    "FederationService": {
        "CreateFederation": _OPERATORS,
        "GetFederation": _OPERATORS,
        "ListFederations": _OPERATORS,
    },
    "MemberService": {
        "CreateMember": _OPERATORS,
        "GetMember": _OPERATORS,
        "ListMembers": _OPERATORS,
        "RevokeMember": _OPERATORS,
        "IssueApiKey": _OPERATORS,
    },
}

POLICY: Policy = MappingProxyType(
    {
        f"/finsecure.keyservice.v1.{service}/{method}": access
        for service, methods in _ACCESS.items()
        for method, access in methods.items()
    }
)

WATCH_REVOCATION_LIST = "/finsecure.keyservice.v1.CertificateService/WatchRevocationList"
"""The one method that stays open."""
