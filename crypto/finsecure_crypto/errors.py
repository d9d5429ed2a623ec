"""The one vocabulary of errors: each has a stable code and says whose fault it is.

The codes travel as `google.rpc.ErrorInfo.reason`, so they never change once released. What a
person should do next belongs into the message, which therefore never holds a secret.
"""

from enum import Enum


class Fault(Enum):
    """Who has to act for the operation to succeed."""

    CALLER = "caller"  # the arguments or the configuration of whoever called
    PEER = "peer"  # the other party broke the protocol
    STATE = "state"  # the call is right, but not now
    INTERNAL = "internal"  # a defect or a failing machine on this side


class FinSecureError(Exception):
    """Base of all errors that the project raises on purpose.

    Attributes:
        code: stable reason code, `UPPER_SNAKE_CASE`.
        fault: who has to act.
        culprit: id of the peer that is to blame, where one is known.
    """

    fault: Fault = Fault.INTERNAL

    def __init__(self, code: str, message: str, *, culprit: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.culprit = culprit

    def __str__(self) -> str:
        return f"{self.args[0]} [{self.code}]"

    @property
    def message(self) -> str:
        """The sentence for people, without the code."""
        return str(self.args[0])


class InvalidArgumentError(FinSecureError):
    """A value is malformed or out of bounds; the caller has to change it."""

    fault = Fault.CALLER


class ConfigurationError(FinSecureError):
    """A configuration file or command line is wrong; its owner has to change it."""

    fault = Fault.CALLER


class PolicyError(FinSecureError):
    """The request is weaker than, or outside, what this side's own policy allows."""

    fault = Fault.CALLER


class AuthenticationError(FinSecureError):
    """The caller did not prove who it is."""

    fault = Fault.CALLER


class PermissionDeniedError(FinSecureError):
    """The caller is known and may not do this."""

    fault = Fault.CALLER


class NotFoundError(FinSecureError):
    """The named thing does not exist."""

    fault = Fault.CALLER


class ConflictError(FinSecureError):
    """The named thing exists already, or was changed meanwhile."""

    fault = Fault.CALLER


class StateError(FinSecureError):
    """The thing exists but is not in a state that allows this."""

    fault = Fault.STATE


class ProtocolViolationError(FinSecureError):
    """A peer sent what no honest peer sends; `culprit` names it where it is known."""

    fault = Fault.PEER


class IntegrityError(FinSecureError):
    """Bytes do not match their digest, checksum, signature or authentication tag."""

    fault = Fault.PEER


class ResourceExhaustedError(FinSecureError):
    """A limit of size, number or rate was reached."""

    fault = Fault.CALLER


class UnavailableError(FinSecureError):
    """A service or store cannot be reached now; try again later."""

    fault = Fault.STATE


class InternalError(FinSecureError):
    """A defect on this side; details stay in its log."""

    fault = Fault.INTERNAL
