"""The policy names every method that the protos have, and nothing else."""

from finsecure.keyservice.v1 import certificates_pb2, members_pb2
from finsecure_crypto.certificates import Role
from finsecure_keyservice.policy import POLICY, WATCH_REVOCATION_LIST
from finsecure_rpc.policy import ANYONE, methods_of, undeclared

OPEN_TO_ALL = {"Enrol", "GetTrustBundle"}
FOR_MEMBERS = {"RenewCertificates", "GetRevocationList", "WatchRevocationList"}


def test_every_method_has_a_line_and_every_line_a_method() -> None:
    assert undeclared(POLICY, certificates_pb2, members_pb2) == set()
    assert set(POLICY) == methods_of(certificates_pb2, members_pb2)
    assert WATCH_REVOCATION_LIST in POLICY


def test_whatever_is_not_said_to_be_open_is_for_operators_alone() -> None:
    for method, access in POLICY.items():
        name = method.rpartition("/")[2]
        if name in OPEN_TO_ALL:
            assert access is ANYONE, method
        elif name in FOR_MEMBERS:
            assert access == {Role.CLIENT, Role.AGGREGATOR, Role.TRUSTEE, Role.OPERATOR}, method
        else:
            assert access == {Role.OPERATOR}, method
