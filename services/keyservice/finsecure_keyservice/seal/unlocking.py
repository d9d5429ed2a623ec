"""Commands on the key service's own machine that need its keys ask for shares themselves."""

import sys
from collections.abc import Sequence
from pathlib import Path

from finsecure_rpc.unsealing import prompt_share, read_share

from finsecure_keyservice.config import Configuration
from finsecure_keyservice.protection.secret_files import (
    CLEAR,
    SealedFiles,
    SecretFiles,
    read_sealed,
)


def unlock(configuration: Configuration, share_files: Sequence[Path]) -> SecretFiles:
    """What reads and writes the protected file; on a terminal, missing shares are asked for.

    Args:
        configuration: of the key service; without `[seal]` and shares, the file is in the clear.
        share_files: files that hold one share each.

    Raises:
        ConfigurationError: SHARE_FILE_MISSING, or what `read_sealed` raises.
        InvalidArgumentError: SHARE_MALFORMED, SHARES_TOO_FEW.
        AuthenticationError: SHARE_OF_ANOTHER_SET, SHARE_REJECTED.
    """
    if configuration.seal is None and not share_files:
        return CLEAR
    return unlock_sealed(configuration, share_files)


def unlock_sealed(configuration: Configuration, share_files: Sequence[Path]) -> SealedFiles:
    """As `unlock`, where the file has to be sealed."""
    protection = configuration.protected_by
    seal = read_sealed(protection.secret_file).seal
    shares = {}
    for path in share_files:
        share = read_share(path)
        seal.check(share)
        shares[share.number] = share
    while len(shares) < seal.threshold and sys.stdin.isatty():
        share = prompt_share(f"Share {len(shares) + 1} of {seal.threshold}")
        seal.check(share)
        shares[share.number] = share
    key = seal.combine(tuple(shares.values()))
    return SealedFiles(seal, key, protection.kind, tuple(sorted(shares)))
