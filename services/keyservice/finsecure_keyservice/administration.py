"""Which of the people who administer may administer whom.

Two persons are worth more than one only if one cannot make the other up. So security officers are
registered, and given API keys, on the key service's own machine alone, and only security officers
put one another out.
"""

from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.errors import PermissionDeniedError

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
