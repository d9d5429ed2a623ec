"""Which role may call which method. What is not listed, nobody may call."""

from types import MappingProxyType

from finsecure_crypto.certificates import Role
from finsecure_rpc.policy import ADMINISTRATORS, ANYONE, MEMBERS, OFFICERS, READERS, Access, Policy

from finsecure_keyservice.audit.policy import POLICY as AUDIT_POLICY
from finsecure_keyservice.audit.policy import WATCH_EVENTS

_AGGREGATORS: Access = frozenset({Role.AGGREGATOR})

_ACCESS: dict[str, dict[str, Access]] = {
    "EnrolmentService": {
        "GetTrustBundle": ANYONE,
        "Enrol": ANYONE,  # its API key authenticates
        "Join": ANYONE,  # its join token authenticates
        "RenewCertificates": MEMBERS,
    },
    "CertificateService": {
        "ListCertificates": READERS,
        "RevokeCertificate": ADMINISTRATORS,
        "GetRevocationList": MEMBERS,
        "WatchRevocationList": MEMBERS,
    },
    "EncryptionKeyService": {
        "RegisterEncryptionKey": ADMINISTRATORS,
        "GetEncryptionKey": MEMBERS,
        "ListEncryptionKeys": MEMBERS,
        "DownloadEncryptionKey": MEMBERS,
        "SetEncryptionKeyState": ADMINISTRATORS,
        "RenewEndorsements": ADMINISTRATORS,
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
    "FederationService": {
        "CreateFederation": ADMINISTRATORS,
        "GetFederation": MEMBERS,
        "ListFederations": READERS,
        "UpdateFederation": ADMINISTRATORS,
    },
    "KeyManagementService": {
        "CreateKeyRing": ADMINISTRATORS,
        "GetKeyRing": MEMBERS,
        "ListKeyRings": MEMBERS,
        "CreateCryptoKey": ADMINISTRATORS,
        "GetCryptoKey": MEMBERS,
        "ListCryptoKeys": MEMBERS,
        "UpdateCryptoKey": ADMINISTRATORS,
        "CreateCryptoKeyVersion": ADMINISTRATORS,
        "GetCryptoKeyVersion": MEMBERS,
        "ListCryptoKeyVersions": MEMBERS,
        "ChangeCryptoKeyVersion": ADMINISTRATORS,
        "DestroyCryptoKeyVersion": OFFICERS,
        "DownloadPublicKey": MEMBERS,
        "CreateImportJob": ADMINISTRATORS,
        "ImportCryptoKeyVersion": OFFICERS,
    },
    "ModelSigningService": {
        "SignModel": _AGGREGATORS,
        "VerifyModel": MEMBERS,
    },
    "EnvelopeService": {
        "WrapDataKey": _AGGREGATORS,
        "UnwrapDataKey": _AGGREGATORS,
    },
    "JoinTokenService": {
        "CreateJoinToken": ADMINISTRATORS,
        "ListJoinTokens": READERS,
        "ListJoinTokenUses": READERS,
        "RevokeJoinToken": ADMINISTRATORS,
    },
    "SealService": {
        "GetSealStatus": ANYONE,
        "Unseal": ANYONE,  # the share authenticates
        "Seal": OFFICERS,
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
        **AUDIT_POLICY,
        **{
            f"/finsecure.keyservice.v1.{service}/{method}": access
            for service, methods in _ACCESS.items()
            for method, access in methods.items()
        },
    }
)

WATCH_REVOCATION_LIST = "/finsecure.keyservice.v1.CertificateService/WatchRevocationList"
STAYS_OPEN = (WATCH_REVOCATION_LIST, WATCH_EVENTS)
"""Methods whose streams stay open."""
