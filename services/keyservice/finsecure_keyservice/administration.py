"""Which of the people who administer may administer whom.

Two persons are worth more than one only if one cannot make the other up. So security officers are
registered, and given API keys, on the key service's own machine alone, and only security officers
put one another out. Neither may one person become the trustees of a key that clients know by name.
"""

from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.errors import ConflictError, PermissionDeniedError

from finsecure_keyservice.approvals import DangerousAct
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.records import MemberRecord, MemberState


def require_may_admit(name: str) -> None:
    """Refuse to register, or hand an API key to, a security officer over the wire.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        PermissionDeniedError: OFFICER_LOCAL_ONLY.
    """
    if MemberName.parse(name).role is Role.OFFICER:
        raise PermissionDeniedError(
            "OFFICER_LOCAL_ONLY",
            "security officers are made on the key service's machine: run "
            "`finsecure-keyservice operator-key --role officer` there",
        )


def readmission(member: MemberRecord | None) -> DangerousAct | None:
    """What a new API key for a trustee that has enrolled is: an act of two security officers.

    Whoever has the key enrols as that trustee, with keys of its own: alone, an operator would
    become all the trustees whom clients trust by name, and make encryption keys with itself.
    """
    if member is None or member.role is not Role.TRUSTEE or member.state is MemberState.INVITED:
        return None
    return DangerousAct("trustees.readmit", f"let whoever gets the API key enrol as {member.name}")


def require_agreed(agreed: DangerousAct | None, member: MemberRecord | None) -> None:
    """Refuse to let a trustee in anew that has enrolled since nobody's agreement seemed needed.

    Raises:
        ConflictError: MEMBER_CHANGED.
    """
    if agreed is None and (act := readmission(member)) is not None:
        raise ConflictError("MEMBER_CHANGED", f"to {act.summary} needs two by now; try again")


def require_may_put_out(caller: SpiffeId, name: str) -> None:
    """Refuse to let anybody but a security officer put out a security officer.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        PermissionDeniedError: ROLE_NOT_ALLOWED.
    """
    if MemberName.parse(name).role is Role.OFFICER and caller.role is not Role.OFFICER:
        raise PermissionDeniedError(
            "ROLE_NOT_ALLOWED", "only a security officer may put out a security officer"
        )
