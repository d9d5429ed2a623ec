"""Puts partial decryptions together, and finds out who sent a wrong one.

The secret is s = s1 + s2 + s3; holder i has the component that it drew and that of its predecessor,
and sends for each of them c1·s_j + flooding noise. The noise is a function of what both holders of
a component know, so honest ones send the same residues for it (the replicated sharing of Ito, Saito
and Nishizeki 1989, with noise as in Boneh et al. 2018, section 5.2, made deterministic).

Two holders have one component in common, three have each twice: only with three is every residue
compared, and with two a small lie in what one alone sent shifts the sum unnoticed. With one liar
among three, a wrong component contradicts the other holder of it. A holder that contradicts both
others lies for certain. Where just one component is disputed, its two values are tried: one that
leaves noise all over the modulus is wrong. That is evidence, not proof: who conspires with a
contributor that sent such noise could turn it around. A lie that is itself small cannot be told
from the truth here: nothing opens then.
"""

from collections.abc import Mapping

import numpy as np

from finsecure_crypto.errors import FinSecureError, IntegrityError, ProtocolViolationError
from finsecure_crypto.homomorphic.lattice import canonical
from finsecure_crypto.homomorphic.lattice.canonical import Pairs
from finsecure_crypto.homomorphic.lattice.cryptosystem import Cryptosystem
from finsecure_crypto.homomorphic.lattice.parameters import HOLDERS

# What a sound sum of a full cohort leaves is below 0.3 of the modulus; noise that is uniform comes
# nearer to a half in some of thousands of coefficients.
_PLAUSIBLE = 0.375


def predecessor(holder: int) -> int:
    """Returns whose component this holder keeps beside its own."""
    return (holder - 2) % HOLDERS + 1


def partner(holder: int) -> int:
    """Returns who else keeps the component that this holder drew."""
    return holder % HOLDERS + 1


def held(holder: int) -> tuple[int, int]:
    """Returns the components of a holder, in the order of its partial decryptions."""
    return holder, predecessor(holder)


def open_sum(system: Cryptosystem, total: Pairs, partials: Mapping[int, Pairs]) -> Pairs:
    """Adds the products with all components to c0.

    Args:
        system: the mode.
        total: the sum, shape (m, 2, primes, N).
        partials: of at least two holders, each of the shape of the total.

    Returns:
        The opened sum as values, shape (m, primes, N).

    Raises:
        ProtocolViolationError: `PARTIAL_INVALID`, with the liar as culprit, where it can be told.
        IntegrityError: `PARTIALS_DISAGREE` where it cannot.
    """
    claims = {
        component: {
            holder: partials[holder][:, held(holder).index(component)]
            for holder in (component, partner(component))
            if holder in partials
        }
        for component in range(1, HOLDERS + 1)
    }
    disputes = [by for by in claims.values() if len(by) == 2 and not _equal(*by.values())]
    if disputes:
        raise _judge(system, total, claims, disputes)
    return _added(system, total, [next(iter(by.values())) for by in claims.values()])


def _judge(
    system: Cryptosystem,
    total: Pairs,
    claims: dict[int, dict[int, Pairs]],
    disputes: list[dict[int, Pairs]],
) -> FinSecureError:
    suspects = set.intersection(*(set(by) for by in disputes))
    if len(disputes) == 1:
        undisputed = [next(iter(by.values())) for by in claims.values() if by is not disputes[0]]
        suspects = {
            holder
            for holder, claim in disputes[0].items()
            if not _plausible(system, _added(system, total, [*undisputed, claim]))
        }
    if len(suspects) == 1:
        liar = str(suspects.pop())
        return ProtocolViolationError(
            "PARTIAL_INVALID",
            f"holder {liar} sent a wrong partial decryption; leave it out",
            culprit=liar,
        )
    names = " and ".join(str(holder) for holder in sorted({h for by in disputes for h in by}))
    return IntegrityError(
        "PARTIALS_DISAGREE",
        f"the partial decryptions of holders {names} contradict each other; ask the third holder, "
        "and if it does not settle it, let these two compare what they hold",
    )


def _added(system: Cryptosystem, total: Pairs, products: list[Pairs]) -> Pairs:
    opened: Pairs = total[:, 0]
    for product in products:
        opened = canonical.total(system.parameters, opened, product)
    return opened


def _plausible(system: Cryptosystem, opened: Pairs) -> bool:
    fractions = system.ring.fractions(opened.astype(np.uint64))
    return bool(np.max(np.abs(fractions)) < _PLAUSIBLE)


def _equal(first: Pairs, second: Pairs) -> bool:
    return np.array_equal(first, second)
