"""Rebuilding the secrets of a whole roster from revealed shares, some of which may be wrong.

Bonawitz et al., CCS 2017, figure 4, Unmasking, server's side, with the addition that every rebuilt
secret is checked against what its owner published, and that a failing check leads to error
correction instead of the end of the round.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import shamir
from finsecure_crypto.errors import IntegrityError, StateError
from finsecure_crypto.secret import SecretBytes

Verify = Callable[[int, SecretBytes], bool]
"""Tells whether a secret is the one that the owner, a roster index, published a check of."""


class SecretMismatchError(IntegrityError):
    """The shares of a secret agree, on another secret than its owner published a check of.

    That is the owner's doing unless more than (m - t)/2 of its m holders lied in concert.

    Attributes:
        owner: roster index of the owner, whose fault it is.
    """

    def __init__(self, owner: int) -> None:
        super().__init__(
            "SECRET_MISMATCH",
            "a client shared another secret than it committed to; its mask cannot be removed, so "
            "abort this attempt and leave the client out of the next",
        )
        self.owner = owner


@dataclass(frozen=True, eq=False)
class RevealedBy:
    """What one holder revealed.

    Attributes:
        holder: its roster index.
        owners: uint32, shape (m,), ascending: whose secrets.
        shares: uint32, shape (m, 9): its shares of them.
    """

    holder: int
    owners: NDArray[np.uint32]
    shares: shamir.Shares = field(repr=False)


@dataclass(frozen=True)
class Rebuilt:
    """The rebuilt secrets.

    Attributes:
        secrets: by roster index of the owner.
        wrong: (holder, owner) of each share that was found wrong.
    """

    secrets: dict[int, SecretBytes]
    wrong: tuple[tuple[int, int], ...]


def rebuild(
    revealed: Sequence[RevealedBy], owners: Iterable[int], threshold: int, verify: Verify
) -> Rebuilt:
    """Rebuilds one secret of each owner.

    Secrets held at the same points are rebuilt together. Where checks fail, one secret is decoded
    with errors, which names holders of wrong shares; these are no longer relied on, and the rest
    is tried again. So the work grows with the number of liars and not with their shares.

    Args:
        revealed: all revealed shares, each holder once.
        owners: roster indices of those whose secrets are needed.
        threshold: the papers' t.
        verify: the check that a secret has to pass.

    Raises:
        StateError: `TOO_FEW_REVEALS` when a secret has fewer than t shares; wait for more.
        IntegrityError: `SHARES_NOT_DECODABLE` when too many shares of one secret are wrong to
            tell which.
        SecretMismatchError: `SECRET_MISMATCH`; the owner's.
    """
    return _Rebuilding(_Pool(revealed), threshold, verify).run(list(owners))


class _Pool:
    """All shares, ordered by owner and then by holder, so that an owner's are one slice."""

    def __init__(self, revealed: Sequence[RevealedBy]) -> None:
        ordered = sorted(revealed, key=lambda each: each.holder)
        owners = np.concatenate([np.empty(0, np.uint32), *(each.owners for each in ordered)])
        holders = [np.full(each.owners.size, each.holder, np.uint32) for each in ordered]
        # Stable, so that an owner's shares stay in the order of their holders.
        order = np.argsort(owners, kind="stable")
        self._owners = owners[order]
        self._holders = np.concatenate([np.empty(0, np.uint32), *holders])[order]
        shares = [np.empty((0, shamir.LIMBS), np.uint32), *(each.shares for each in ordered)]
        self._shares = np.concatenate(shares)[order]

    def of(self, owner: int) -> tuple[NDArray[np.uint32], shamir.Shares]:
        """Returns the holders of an owner's shares, and these."""
        start, end = np.searchsorted(self._owners, [owner, owner + 1])
        return self._holders[start:end], self._shares[start:end]


class _Rebuilding:
    def __init__(self, pool: _Pool, threshold: int, verify: Verify) -> None:
        self._pool, self._threshold, self._verify = pool, threshold, verify
        self._secrets: dict[int, SecretBytes] = {}
        self._wrong: list[tuple[int, int]] = []
        self._distrusted = np.empty(0, np.uint32)

    def run(self, pending: list[int]) -> Rebuilt:
        while pending := self._try_all(pending):
            self._decode(pending.pop())
        return Rebuilt(self._secrets, tuple(sorted(self._wrong)))

    def _try_all(self, pending: list[int]) -> list[int]:
        """Rebuilds from the first t trusted shares each; returns the owners that this fails for."""
        groups: dict[bytes, list[tuple[int, shamir.Shares]]] = {}
        failed = []
        for owner in pending:
            holders, shares = self._pool.of(owner)
            taken = np.flatnonzero(~np.isin(holders, self._distrusted))[: self._threshold]
            if holders.size < self._threshold:
                raise _too_few(holders.size, self._threshold)
            if taken.size < self._threshold:
                failed.append(owner)
                continue
            groups.setdefault(holders[taken].tobytes(), []).append((owner, shares[taken]))
        for key, members in groups.items():
            points = np.frombuffer(key, np.uint32) + np.uint32(1)
            stacked = np.stack([shares for _, shares in members])
            secrets = shamir.reconstruct_many(stacked, points, self._threshold)
            for (owner, _), secret in zip(members, secrets, strict=True):
                if self._verify(owner, secret):
                    self._secrets[owner] = secret
                else:
                    failed.append(owner)
        return failed

    def _decode(self, owner: int) -> None:
        """Rebuilds one secret although some of its shares are wrong, and learns which."""
        holders, shares = self._pool.of(owner)
        trusted = ~np.isin(holders, self._distrusted)
        agree_on_another = False
        # All shares are the second try: a dealer of wrong shares can make its honest holders
        # distrusted, and leave too few without them.
        for chosen in (trusted, np.ones_like(trusted)):
            tried = holders[chosen]
            if tried.size < self._threshold:
                continue
            try:
                decoded = shamir.decode(shares[chosen], tried + np.uint32(1), self._threshold)
            except IntegrityError:
                continue
            if self._verify(owner, decoded.secret):
                self._secrets[owner] = decoded.secret
                liars = tried[list(decoded.wrong)]
                self._wrong += [(holder, owner) for holder in liars.tolist()]
                self._distrusted = np.union1d(self._distrusted, liars)
                return
            # Just t shares lie on a polynomial whatever they are, so they accuse nobody.
            agree_on_another |= tried.size > self._threshold
        if agree_on_another:
            raise SecretMismatchError(owner)
        raise IntegrityError(
            "SHARES_NOT_DECODABLE",
            "too many shares of one secret are wrong to tell which; wait for more or abort",
        )


def _too_few(found: int, threshold: int) -> StateError:
    return StateError(
        "TOO_FEW_REVEALS",
        f"a secret has {found} revealed shares and needs {threshold}; wait for more or abort",
    )
