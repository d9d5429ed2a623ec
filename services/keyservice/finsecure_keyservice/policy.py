"""Which role may call which method. What is not listed, nobody may call."""

from types import MappingProxyType

from finsecure_crypto.certificates import Role
from finsecure_rpc.policy import ADMINISTRATORS, ANYONE, OFFICERS, READERS, Access, Policy

_MEMBERS: Access = READERS | {Role.CLIENT, Role.AGGREGATOR, Role.TRUSTEE}
_AGGREGATORS: Access = frozenset({Role.AGGREGATOR})

_ACCESS: dict[str, dict[str, Access]] = {
    "EnrolmentService": {
        "GetTrustBundle": ANYONE,
        "Enrol": ANYONE,  # its API key authenticates
        "RenewCertificates": _MEMBERS,
    },
    "CertificateService": {
        "ListCertificates": READERS,
        "RevokeCertificate": ADMINISTRATORS,
        "GetRevocationList": _MEMBERS,
        "WatchRevocationList": _MEMBERS,
    },
    "EncryptionKeyService": {
        "RegisterEncryptionKey": ADMINISTRATORS,
        "GetEncryptionKey": _MEMBERS,
        "ListEncryptionKeys": _MEMBERS,
        "DownloadEncryptionKey": _MEMBERS,
        "SetEncryptionKeyState": ADMINISTRATORS,
    },
    "AuthorityService": {
        "ListAuthorities": READERS,
        "PrepareAuthority": ADMINISTRATORS,
        "InstallAuthority": ADMINISTRATORS,
        "ActivateAuthority": ADMINISTRATORS,
        "TaintAuthority": ADMINISTRATORS,
        "RevokeAuthority": OFFICERS,
    },
    "ApprovalService": {
        "GetProposal": READERS,
        "ListProposals": READERS,
        "ApproveProposal": OFFICERS,
        "RejectProposal": OFFICERS,
    },
    "AuditService": {
        "GetCheckpoint": _MEMBERS,
        "GetConsistencyProof": _MEMBERS,
        "GetInclusionProof": _MEMBERS,
        "ProvePublication": _MEMBERS,
        "ListEvents": READERS,
        "WatchEvents": READERS,
    },
    "FederationService": {
        "CreateFederation": ADMINISTRATORS,
        "GetFederation": READERS,
        "ListFederations": READERS,
    },
    "KeyManagementService": {
        "CreateKeyRing": ADMINISTRATORS,
        "GetKeyRing": _MEMBERS,
        "ListKeyRings": _MEMBERS,
        "CreateCryptoKey": ADMINISTRATORS,
        "GetCryptoKey": _MEMBERS,
        "ListCryptoKeys": _MEMBERS,
        "UpdateCryptoKey": ADMINISTRATORS,
        "CreateCryptoKeyVersion": ADMINISTRATORS,
        "GetCryptoKeyVersion": _MEMBERS,
        "ListCryptoKeyVersions": _MEMBERS,
        "ChangeCryptoKeyVersion": ADMINISTRATORS,
        "DestroyCryptoKeyVersion": OFFICERS,
        "DownloadPublicKey": _MEMBERS,
        "CreateImportJob": ADMINISTRATORS,
        "ImportCryptoKeyVersion": OFFICERS,
    },
    "ModelSigningService": {
        "SignModel": _AGGREGATORS,
        "VerifyModel": _MEMBERS,
    },
    "EnvelopeService": {
        "WrapDataKey": _AGGREGATORS,
        "UnwrapDataKey": _AGGREGATORS,
    },
    "MemberService": {
        "CreateMember": ADMINISTRATORS,
        "GetMember": READERS,
        "ListMembers": READERS,
        "RevokeMember": ADMINISTRATORS,
        "SuspendMember": ADMINISTRATORS,
        "ReactivateMember": ADMINISTRATORS,
        "IssueApiKey": ADMINISTRATORS,
        "ReissueCredentials": ADMINISTRATORS,
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
WATCH_EVENTS = "/finsecure.keyservice.v1.AuditService/WatchEvents"
STAYS_OPEN = (WATCH_REVOCATION_LIST, WATCH_EVENTS)
"""Methods whose streams stay open."""
