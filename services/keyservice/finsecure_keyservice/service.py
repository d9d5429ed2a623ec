"""The gRPC services that share one backend.

Each converts, calls the logic in one transaction, and converts back. Who calls has been
established, and whether they may, before anything there runs.
"""

from collections.abc import Callable
from typing import Any

from finsecure.keyservice.v1 import (
    approvals_pb2_grpc,
    authorities_pb2_grpc,
    certificates_pb2_grpc,
    encryption_keys_pb2_grpc,
    join_tokens_pb2_grpc,
    members_pb2_grpc,
)

from finsecure_keyservice.approval_service import ApprovalService
from finsecure_keyservice.authority_service import AuthorityService
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.certificate_service import CertificateService
from finsecure_keyservice.encryption_key_service import EncryptionKeyService
from finsecure_keyservice.enrolment_service import EnrolmentService
from finsecure_keyservice.federation_service import FederationService
from finsecure_keyservice.join_token_service import JoinTokenService
from finsecure_keyservice.member_service import MemberService


def services(backend: Backend) -> list[tuple[Callable[[Any, Any], None], object]]:
    """All services, each with the generated function that adds it to a server."""
    return [
        (members_pb2_grpc.add_FederationServiceServicer_to_server, FederationService(backend)),
        (members_pb2_grpc.add_MemberServiceServicer_to_server, MemberService(backend)),
        (join_tokens_pb2_grpc.add_JoinTokenServiceServicer_to_server, JoinTokenService(backend)),
        (certificates_pb2_grpc.add_EnrolmentServiceServicer_to_server, EnrolmentService(backend)),
        (
            certificates_pb2_grpc.add_CertificateServiceServicer_to_server,
            CertificateService(backend),
        ),
        (authorities_pb2_grpc.add_AuthorityServiceServicer_to_server, AuthorityService(backend)),
        (approvals_pb2_grpc.add_ApprovalServiceServicer_to_server, ApprovalService(backend)),
        (
            encryption_keys_pb2_grpc.add_EncryptionKeyServiceServicer_to_server,
            EncryptionKeyService(backend),
        ),
    ]
