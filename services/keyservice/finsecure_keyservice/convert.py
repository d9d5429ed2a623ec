"""Records to messages of `finsecure.keyservice.v1`; bounds of the other way are in the protos."""

from collections.abc import Iterable
from datetime import datetime

from finsecure.keyservice.v1 import (
    approvals_pb2,
    authorities_pb2,
    certificates_pb2,
    encryption_keys_pb2,
    members_pb2,
)
from finsecure_crypto.certificates import Purpose, Role
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.homomorphic.key_record import (
    Endorsement,
    KeyDescription,
    KeyState,
)
from finsecure_rpc.encryption_key_terms import GENERATIONS, MODES, STATES
from google.protobuf.timestamp_pb2 import Timestamp

from finsecure_keyservice.approval_store import ProposalRecord
from finsecure_keyservice.approvals import Standing, standing
from finsecure_keyservice.authorities import Believed
from finsecure_keyservice.authority_store import AuthorityRecord, AuthorityState
from finsecure_keyservice.encryption_key_store import EncryptionKeyRecord
from finsecure_keyservice.enrolment import Issued
from finsecure_keyservice.etags import etag, revision
from finsecure_keyservice.federations import Change
from finsecure_keyservice.names import MemberName, federation_id, trust_domain
from finsecure_keyservice.records import (
    CertificateRecord,
    FederationRecord,
    MemberRecord,
    MemberState,
)

_ROLES = {
    Role.CLIENT: members_pb2.MEMBER_ROLE_CLIENT,
    Role.AGGREGATOR: members_pb2.MEMBER_ROLE_AGGREGATOR,
    Role.TRUSTEE: members_pb2.MEMBER_ROLE_TRUSTEE,
    Role.VIEWER: members_pb2.MEMBER_ROLE_VIEWER,
    Role.OPERATOR: members_pb2.MEMBER_ROLE_OPERATOR,
    Role.OFFICER: members_pb2.MEMBER_ROLE_SECURITY_OFFICER,
    Role.KEYSERVICE: members_pb2.MEMBER_ROLE_KEYSERVICE,
}
_ROLE_OF = {value: role for role, value in _ROLES.items()}
_STATES = {
    MemberState.INVITED: members_pb2.MEMBER_STATE_INVITED,
    MemberState.ACTIVE: members_pb2.MEMBER_STATE_ACTIVE,
    MemberState.SUSPENDED: members_pb2.MEMBER_STATE_SUSPENDED,
    MemberState.REVOKED: members_pb2.MEMBER_STATE_REVOKED,
}
_STANDINGS = {
    Standing.PENDING: approvals_pb2.PROPOSAL_STATE_PENDING,
    Standing.APPROVED: approvals_pb2.PROPOSAL_STATE_APPROVED,
    Standing.EXECUTED: approvals_pb2.PROPOSAL_STATE_EXECUTED,
    Standing.REJECTED: approvals_pb2.PROPOSAL_STATE_REJECTED,
    Standing.EXPIRED: approvals_pb2.PROPOSAL_STATE_EXPIRED,
}
_AUTHORITY_STATES = {
    AuthorityState.REQUESTED: authorities_pb2.AUTHORITY_STATE_REQUESTED,
    AuthorityState.PREPARED: authorities_pb2.AUTHORITY_STATE_PREPARED,
    AuthorityState.ACTIVE: authorities_pb2.AUTHORITY_STATE_ACTIVE,
    AuthorityState.RETIRED: authorities_pb2.AUTHORITY_STATE_RETIRED,
    AuthorityState.TAINTED: authorities_pb2.AUTHORITY_STATE_TAINTED,
    AuthorityState.REVOKED: authorities_pb2.AUTHORITY_STATE_REVOKED,
}
_PURPOSES = {
    Purpose.TLS: certificates_pb2.CERTIFICATE_PURPOSE_TLS,
    Purpose.SIGNING: certificates_pb2.CERTIFICATE_PURPOSE_SIGNING,
}

_MODES = {mode: value for value, mode in MODES.items()}
_GENERATIONS = {generation: value for value, generation in GENERATIONS.items()}
_KEY_STATES = {state: value for value, state in STATES.items()}


def timestamp(instant: datetime) -> Timestamp:
    """An aware UTC instant."""
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def federation(record: FederationRecord, domain: str) -> members_pb2.Federation:
    """A federation."""
    return members_pb2.Federation(
        name=record.name,
        display_name=record.display_name,
        trust_domain=trust_domain(federation_id(record.name), domain),
        create_time=timestamp(record.create_time),
        minimum_cohort=record.minima.rounds,
        minimum_sum_cohort=record.minima.sums,
        revision=record.minima.revision,
        etag=etag(record.minima.revision),
    )


def federation_change(request: members_pb2.UpdateFederationRequest) -> Change:
    """What is wanted of a federation's minimum cohorts.

    Raises:
        InvalidArgumentError: UPDATE_MASK or ETAG_REQUIRED.
        ConflictError: ETAG_MISMATCH.
    """
    wanted, paths = request.federation, set(request.update_mask.paths)
    if not paths or not paths <= {"minimum_cohort", "minimum_sum_cohort"}:
        raise InvalidArgumentError(
            "UPDATE_MASK",
            "update_mask has to name `minimum_cohort`, `minimum_sum_cohort`, or both; nothing else "
            "can change",
        )
    expected = revision(wanted.etag)
    if expected is None:
        raise InvalidArgumentError(
            "ETAG_REQUIRED", f"give the etag of {wanted.name} as you have read it"
        )
    return Change(
        wanted.name,
        wanted.minimum_cohort if "minimum_cohort" in paths else None,
        wanted.minimum_sum_cohort if "minimum_sum_cohort" in paths else None,
        expected,
    )


def member(record: MemberRecord, domain: str) -> members_pb2.Member:
    """A member."""
    return members_pb2.Member(
        name=record.name,
        display_name=record.display_name,
        role=role_value(record.role),
        state=_STATES[record.state],
        spiffe_id=str(MemberName.parse(record.name).spiffe_id(domain)),
        create_time=timestamp(record.create_time),
    )


def role_value(role: Role) -> members_pb2.MemberRole.ValueType:
    """A role, as the contract numbers it."""
    return _ROLES[role]


def role(value: members_pb2.MemberRole.ValueType) -> Role:
    """A role.

    Raises:
        InvalidArgumentError: ROLE_MISSING; the caller's.
    """
    if value not in _ROLE_OF:
        raise InvalidArgumentError("ROLE_MISSING", "say which role; see the contract's MemberRole")
    return _ROLE_OF[value]


def certificate(record: CertificateRecord) -> certificates_pb2.Certificate:
    """The record of one certificate."""
    message = certificates_pb2.Certificate(
        name=f"certificates/{record.serial}",
        member=record.member,
        purpose=_PURPOSES[record.purpose],
        der=record.der,
        not_before=timestamp(record.not_before),
        not_after=timestamp(record.not_after),
        revoke_reason=record.revoke_reason,
    )
    if record.revoke_time is not None:
        message.revoke_time.CopyFrom(timestamp(record.revoke_time))
    return message


def trust_bundle(believed: Believed) -> certificates_pb2.TrustBundle:
    """The certificate authorities."""
    return certificates_pb2.TrustBundle(
        roots=believed.anchors.roots,
        intermediates=believed.anchors.intermediates,
        tainted_key_ids=sorted(believed.tainted),
    )


def issued(certificates: Issued, believed: Believed) -> certificates_pb2.IssuedCertificates:
    """What a member gets."""
    return certificates_pb2.IssuedCertificates(
        tls_certificate=certificates.tls.der,
        signing_certificate=certificates.signing.der,
        trust_bundle=trust_bundle(believed),
    )


def serial(name: str) -> str:
    """The serial number in `certificates/{serial}`; the proto has checked the form."""
    return name.removeprefix("certificates/")


def proposal(record: ProposalRecord, now: datetime) -> approvals_pb2.Proposal:
    """A proposal as it stands now."""
    message = approvals_pb2.Proposal(
        name=f"proposals/{record.id}",
        action=record.action,
        summary=record.summary,
        request_sha256=record.request_digest,
        state=_STANDINGS[standing(record, now)],
        proposer=record.proposer,
        create_time=timestamp(record.create_time),
        expire_time=timestamp(record.expire_time),
        decider=record.decider,
        reason=record.reason,
        executor=record.executor,
    )
    if record.decide_time is not None:
        message.decide_time.CopyFrom(timestamp(record.decide_time))
    if record.execute_time is not None:
        message.execute_time.CopyFrom(timestamp(record.execute_time))
    return message


def proposal_id(name: str) -> str:
    """The id in `proposals/{id}`; the proto has checked the form."""
    return name.removeprefix("proposals/")


def key_description(message: encryption_keys_pb2.EncryptionKey) -> KeyDescription:
    """What trustees have signed of a key; the proto has checked mode and generation."""
    return KeyDescription(
        message.name,
        MODES[message.mode],
        GENERATIONS[message.generation],
        message.holders,
        message.threshold,
        message.digest,
    )


def endorsements(messages: Iterable[encryption_keys_pb2.KeyEndorsement]) -> list[Endorsement]:
    """The trustees' signatures."""
    return [
        Endorsement(item.trustee, item.holder, item.signature, item.certificate)
        for item in messages
    ]


def key_state(value: encryption_keys_pb2.EncryptionKeyState.ValueType) -> KeyState:
    """A state; the proto has checked that it is one."""
    return STATES[value]


def encryption_key(record: EncryptionKeyRecord) -> encryption_keys_pb2.EncryptionKey:
    """The description of a registered key."""
    description = record.description
    return encryption_keys_pb2.EncryptionKey(
        name=description.name,
        mode=_MODES[description.mode],
        generation=_GENERATIONS[description.generation],
        holders=description.holders,
        threshold=description.threshold,
        digest=description.digest,
        size_bytes=record.size_bytes,
        endorsements=[
            encryption_keys_pb2.KeyEndorsement(
                trustee=item.trustee,
                holder=item.holder,
                signature=item.signature,
                certificate=item.certificate,
            )
            for item in record.endorsements
        ],
        state=_KEY_STATES[record.state],
        create_time=timestamp(record.create_time),
        endorse_time=timestamp(record.endorse_time),
    )


def authority(
    record: AuthorityRecord, propagated: datetime | None, dependents: int
) -> authorities_pb2.Authority:
    """An intermediate authority; see `Rotation` for the last two."""
    message = authorities_pb2.Authority(
        name=f"authorities/{record.id}",
        state=_AUTHORITY_STATES[record.state],
        csr=record.csr,
        certificate=record.certificate or b"",
        create_time=timestamp(record.create_time),
        dependents=dependents,
    )
    if record.not_after is not None:
        message.not_after.CopyFrom(timestamp(record.not_after))
    if propagated is not None:
        message.propagate_time.CopyFrom(timestamp(propagated))
    return message


def authority_id(name: str) -> str:
    """The id in `authorities/{id}`; the proto has checked the form."""
    return name.removeprefix("authorities/")
