"""Which schemes trustees can make keys for without a dealer."""

from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.homomorphic.ceremony import Steps
from finsecure_crypto.homomorphic.mode import Mode


def steps_of(mode: Mode, holder: int, context: bytes) -> Steps:
    """The scheme's side of a ceremony.

    Args:
        mode: the scheme.
        holder: number of this trustee, from 1.
        context: digest of the ceremony, 32 bytes.

    Raises:
        InvalidArgumentError: NO_DISTRIBUTED_GENERATION; the caller's.
    """
    raise InvalidArgumentError(
        "NO_DISTRIBUTED_GENERATION",
        f"trustees cannot make a {mode.value} key among themselves; a dealer makes it, offline",
    )
