"""Who may call what, and how long a call may last."""

from types import MappingProxyType

from finsecure_crypto.certificates import Role
from finsecure_rpc.policy import ADMINISTRATORS, READERS, Access, Limits, Policy, for_people

_OPERATOR = ADMINISTRATORS
_CLIENT = frozenset({Role.CLIENT})
_MEMBER: Access = READERS | {Role.CLIENT}

_PACKAGE = "/finsecure.aggregation.v1."

POLICY: Policy = MappingProxyType(
    {
        f"{_PACKAGE}TaskService/CreateTask": _OPERATOR,
        f"{_PACKAGE}TaskService/GetTask": _MEMBER,
        f"{_PACKAGE}TaskService/ListTasks": _MEMBER,
        f"{_PACKAGE}TaskService/CancelTask": _OPERATOR,
        f"{_PACKAGE}TaskService/WatchTask": _MEMBER,
        f"{_PACKAGE}RoundService/GetRound": _MEMBER,
        f"{_PACKAGE}RoundService/ListRounds": _MEMBER,
        f"{_PACKAGE}ModelService/UploadInitialModel": _OPERATOR,
        f"{_PACKAGE}ModelService/GetModel": _MEMBER,
        f"{_PACKAGE}ModelService/ListModels": _MEMBER,
        f"{_PACKAGE}ModelService/DownloadModel": _MEMBER,
        f"{_PACKAGE}ModelService/RecheckModel": _OPERATOR,
        f"{_PACKAGE}ParticipationService/Watch": _CLIENT,
        f"{_PACKAGE}ParticipationService/AdvertiseKeys": _CLIENT,
        f"{_PACKAGE}ParticipationService/ShareKeys": _CLIENT,
        f"{_PACKAGE}ParticipationService/SubmitInput": _CLIENT,
        f"{_PACKAGE}ParticipationService/GetUploadStatus": _CLIENT,
        f"{_PACKAGE}ParticipationService/ConfirmSurvivors": _CLIENT,
        f"{_PACKAGE}ParticipationService/RevealShares": _CLIENT,
        f"{_PACKAGE}ParticipationService/DeclineRound": _CLIENT,
        # Whoever created a sum may open and cancel it; the service looks which member that is.
        f"{_PACKAGE}AuditedSumService/CreateSum": _OPERATOR | _CLIENT,
        f"{_PACKAGE}AuditedSumService/GetSum": _MEMBER,
        f"{_PACKAGE}AuditedSumService/ListSums": _MEMBER,
        f"{_PACKAGE}AuditedSumService/WatchSum": _MEMBER,
        f"{_PACKAGE}AuditedSumService/Contribute": _CLIENT,
        f"{_PACKAGE}AuditedSumService/OpenSum": _OPERATOR | _CLIENT,
        f"{_PACKAGE}AuditedSumService/CancelSum": _OPERATOR | _CLIENT,
    }
)

TOKEN_METHODS = for_people(POLICY)
"""What people may call with a token; the steps of rounds and contributing to sums are not there."""

_DAY_S = 86400.0
_HOUR_S = 3600.0

LIMITS = Limits(
    deadlines=MappingProxyType(
        {
            f"{_PACKAGE}TaskService/WatchTask": _DAY_S,
            f"{_PACKAGE}ParticipationService/Watch": _DAY_S,
            f"{_PACKAGE}AuditedSumService/WatchSum": _DAY_S,
            f"{_PACKAGE}ParticipationService/SubmitInput": _HOUR_S,
            f"{_PACKAGE}ModelService/UploadInitialModel": _HOUR_S,
            f"{_PACKAGE}ModelService/DownloadModel": _HOUR_S,
        }
    )
)
