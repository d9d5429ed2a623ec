"""Which of the people who administer may administer whom.

Two persons are worth more than one only if one cannot make the other up. So security officers are
registered, and given API keys, on the key service's own machine alone, and only security officers
put one another out. Neither may one person become the trustees of a key: it takes two to register a
trustee, to hand out an API key of one, whether it has enrolled yet or not, and to take back one who
was suspended.
"""

from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.errors import PermissionDeniedError

from finsecure_keyservice.approvals import DangerousAct
from finsecure_keyservice.names import MemberName


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


def admission(name: str) -> DangerousAct | None:
    """What it is to register a trustee, or to hand out an API key of one: an act of two officers.

    Whoever has the key enrols as that trustee, with keys of its own: alone, an operator would
    become all the trustees of a federation, and make encryption keys with itself.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
    """
    if MemberName.parse(name).role is not Role.TRUSTEE:
        return None
    return DangerousAct("trustees.admit", f"let whoever gets the API key enrol as {name}")


def reactivation(name: str) -> DangerousAct | None:
    """What it is to end the suspension of a trustee: an act of two officers.

    Whoever suspended it doubted that its key is its own; alone, nobody decides that it is.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
    """
    if MemberName.parse(name).role is not Role.TRUSTEE:
        return None
    return DangerousAct("trustees.reactivate", f"end the suspension of {name}")


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
