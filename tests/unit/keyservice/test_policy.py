"""The policy names every method that the protos have, and nothing else."""

from finsecure.keyservice.v1 import (
    approvals_pb2,
    audit_pb2,
    authorities_pb2,
    certificates_pb2,
    encryption_keys_pb2,
    envelope_pb2,
    join_tokens_pb2,
    keys_pb2,
    members_pb2,
    model_signing_pb2,
    seal_pb2,
    trustee_pb2,
)
from finsecure_crypto.certificates import Role
from finsecure_keyservice.policy import POLICY, STAYS_OPEN
from finsecure_keyservice.trustee.policy import POLICY as TRUSTEE_POLICY
from finsecure_rpc.policy import (
    ADMINISTRATORS,
    ANYONE,
    OFFICERS,
    READERS,
    methods_of,
    undeclared,
)

CONTRACT = (
    approvals_pb2,
    audit_pb2,
    authorities_pb2,
    certificates_pb2,
    encryption_keys_pb2,
    envelope_pb2,
    join_tokens_pb2,
    keys_pb2,
    members_pb2,
    model_signing_pb2,
    seal_pb2,
)

OPEN_TO_ALL = {"Enrol", "Join", "GetTrustBundle", "GetSealStatus", "Unseal"}
FOR_OFFICERS = {
    *("ApproveProposal", "RejectProposal", "RevokeAuthority"),
    *("DestroyCryptoKeyVersion", "ImportCryptoKeyVersion", "Seal"),
}
FOR_AGGREGATORS = {"WrapDataKey", "UnwrapDataKey", "SignModel"}
FOR_MEMBERS = {
    "GetFederation",
    *("RenewCertificates", "GetRevocationList", "WatchRevocationList"),
    *("GetKeyRing", "ListKeyRings", "GetCryptoKey", "ListCryptoKeys"),
    *("GetCryptoKeyVersion", "ListCryptoKeyVersions", "DownloadPublicKey", "VerifyModel"),
    *("GetCheckpoint", "GetConsistencyProof", "GetInclusionProof", "ProvePublication"),
    "GetKeyHandover",
    *("GetEncryptionKey", "ListEncryptionKeys", "DownloadEncryptionKey"),
}


def test_every_method_has_a_line_and_every_line_a_method() -> None:
    assert undeclared(POLICY, *CONTRACT) == set()
    assert set(POLICY) == methods_of(*CONTRACT)
    assert set(STAYS_OPEN) <= set(POLICY)


def test_reading_is_for_readers_and_changing_for_administrators_unless_said_otherwise() -> None:
    for method, access in POLICY.items():
        name = method.rpartition("/")[2]
        if name in OPEN_TO_ALL:
            assert access is ANYONE, method
        elif name in FOR_MEMBERS:
            assert access == READERS | {Role.CLIENT, Role.AGGREGATOR, Role.TRUSTEE}, method
        elif name in FOR_AGGREGATORS:
            assert access == {Role.AGGREGATOR}, method
        elif name in FOR_OFFICERS:
            assert access == OFFICERS, method
        elif name.startswith(("Get", "List", "Watch")):
            assert access == READERS, method
        else:
            assert access == ADMINISTRATORS, method


def test_a_trustee_opens_for_aggregators_and_makes_keys_for_administrators() -> None:
    assert set(TRUSTEE_POLICY) == methods_of(trustee_pb2, audit_pb2)
    for method in methods_of(trustee_pb2):
        opens = method.endswith("/PartiallyDecrypt")
        access = {Role.AGGREGATOR} if opens else ADMINISTRATORS
        assert TRUSTEE_POLICY[method] == access, method


def test_a_trustees_log_is_read_like_that_of_the_key_service() -> None:
    for method in methods_of(audit_pb2):
        assert TRUSTEE_POLICY[method] == POLICY[method], method
