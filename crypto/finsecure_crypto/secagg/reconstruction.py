"""Rebuilding the secrets of a whole roster from revealed shares, some of which may be wrong.

Bonawitz et al., CCS 2017, figure 4, Unmasking, server's side, with the addition that every rebuilt
secret is checked against what its owner published, and that a failing check leads to error
correction instead of the end of the round.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import shamir
from finsecure_crypto.errors import IntegrityError, StateError
from finsecure_crypto.secagg.bitmaps import Members
from finsecure_crypto.secret import SecretBytes

Verify = Callable[[int, SecretBytes], bool]
"""Tells whether a secret is the one that the owner, a roster index, published a check of."""

_BATCH_SHARES = 2**22  # looked at together: 150 MB where a secret has so many holders


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
class SharePool:
    """All revealed shares, by owner.

    Attributes:
        holders: uint32, shape (n, h), ascending in each row: who holds shares of each owner.
        revealed: bool, shape (n, h): which of them have revealed theirs.
        shares: uint32, shape (n, h, 9): the shares; only revealed ones mean anything.
    """

    holders: NDArray[np.uint32]
    revealed: NDArray[np.bool_]
    shares: shamir.Shares = field(repr=False)

    def of(self, owner: int) -> tuple[NDArray[np.uint32], shamir.Shares]:
        """Returns the holders of an owner's revealed shares, and these."""
        chosen = self.revealed[owner]
        return self.holders[owner][chosen], self.shares[owner][chosen]


@dataclass(frozen=True)
class Rebuilt:
    """The rebuilt secrets.

    Attributes:
        secrets: by roster index of the owner.
        wrong: (holder, owner) of each share that was found wrong.
    """

    secrets: dict[int, SecretBytes]
    wrong: tuple[tuple[int, int], ...]


def rebuild(pool: SharePool, owners: NDArray[np.intp], threshold: int, verify: Verify) -> Rebuilt:
    """Rebuilds one secret of each owner.

    Secrets held at the same points are rebuilt together, and so are those that are held at
    different ones. Where checks fail, one secret is decoded with errors, which names holders of
    wrong shares; these are no longer relied on, and the rest is tried again. So the work grows
    with the number of liars and not with their shares.

    Args:
        pool: all revealed shares.
        owners: roster indices of those whose secrets are needed.
        threshold: the papers' t.
        verify: the check that a secret has to pass.

    Raises:
        StateError: `TOO_FEW_REVEALS` when a secret has fewer than t shares; wait for more.
        IntegrityError: `SHARES_NOT_DECODABLE` when too many shares of one secret are wrong to
            tell which.
        SecretMismatchError: `SECRET_MISMATCH`; the owner's.
    """
    return _Rebuilding(pool, threshold, verify).run(owners.tolist())


class _Rebuilding:
    def __init__(self, pool: SharePool, threshold: int, verify: Verify) -> None:
        self._pool, self._threshold, self._verify = pool, threshold, verify
        self._secrets: dict[int, SecretBytes] = {}
        self._wrong: list[tuple[int, int]] = []
        self._trusted = np.ones(len(pool.holders), np.bool_)

    def run(self, pending: list[int]) -> Rebuilt:
        while pending := self._try_all(pending):
            self._decode(pending.pop())
        return Rebuilt(self._secrets, tuple(sorted(self._wrong)))

    def _try_all(self, pending: list[int]) -> list[int]:
        """Rebuilds from the first t trusted shares each; returns the owners that this fails for."""
        failed: list[int] = []
        rows = max(1, _BATCH_SHARES // self._pool.holders.shape[1])
        for start in range(0, len(pending), rows):
            owners = np.array(pending[start : start + rows])
            enough, places = self._first_trusted(owners)
            failed += owners[~enough].tolist()
            failed += self._try_these(owners[enough], places)
        return failed

    def _first_trusted(self, owners: NDArray[np.intp]) -> tuple[Members, NDArray[np.intp]]:
        """Finds the first t trusted shares of each owner.

        Returns:
            Who of the owners has so many; and of these, shape (o, t), where in their rows.
        """
        revealed = self._pool.revealed[owners]
        fewest = int(np.count_nonzero(revealed, axis=1).min())
        if fewest < self._threshold:
            raise _too_few(fewest, self._threshold)
        trusted = revealed & self._trusted[self._pool.holders[owners]]
        rank = np.cumsum(trusted, axis=1, dtype=np.uint32)
        enough = rank[:, -1] >= self._threshold
        first = trusted[enough] & (rank[enough] <= self._threshold)
        return enough, np.nonzero(first)[1].reshape(-1, self._threshold)

    def _try_these(self, owners: NDArray[np.intp], places: NDArray[np.intp]) -> list[int]:
        """Rebuilds from shares at these places, shape (o, t); returns the owners that failed."""
        holders = np.take_along_axis(self._pool.holders[owners], places, axis=1)
        groups: dict[bytes, list[int]] = {}
        for row, held_by in enumerate(holders):
            groups.setdefault(held_by.tobytes(), []).append(row)
        shared = [rows for rows in groups.values() if len(rows) > 1]
        alone = [rows[0] for rows in groups.values() if len(rows) == 1]
        failed = []
        for rows in [*shared, alone]:
            shares = self._pool.shares[owners[rows][:, None], places[rows]]
            points = holders[rows] + np.uint32(1)
            if rows is not alone:
                points = points[0]
            secrets = shamir.reconstruct_many(shares, points, self._threshold)
            for owner, secret in zip(owners[rows].tolist(), secrets, strict=True):
                if self._verify(owner, secret):
                    self._secrets[owner] = secret
                else:
                    failed.append(owner)
        return failed

    def _decode(self, owner: int) -> None:
        """Rebuilds one secret although some of its shares are wrong, and learns which."""
        holders, shares = self._pool.of(owner)
        trusted = self._trusted[holders]
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
                self._trusted[liars] = False
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
