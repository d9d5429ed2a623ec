"""An audited sum: one value for each label from each contributor, of which the totals are opened.

The sum's name, its whole specification and a fresh nonce stand in what contributors sign and what
trustees open, so that no contribution serves for another sum, or for the same one on other terms.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import transcript
from finsecure_crypto.encoding import CountSection, VectorLayout
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.homomorphic.decryption import EncryptedContext, SumSubject

_SECTION = "values"


@dataclass(frozen=True)
class SumTerms:
    """What is added up, and for how many.

    Attributes:
        labels: what each value is about, distinct, in the order of the values.
        maximum: largest value that one contributor may give to a label.
        minimum_contributors: fewest contributors whose total is opened, at least 2.
        maximum_contributors: most of them; lanes are sized for so many.
        key_name: resource name of the encryption key.

    Raises:
        InvalidArgumentError: `COHORT_BOUNDS`, or what `VectorLayout` refuses, such as
            `LANE_OVERFLOW` where totals need more than 64 bits; whoever made the terms.
    """

    labels: tuple[str, ...]
    maximum: int
    minimum_contributors: int
    maximum_contributors: int
    key_name: str

    def __post_init__(self) -> None:
        if not 2 <= self.minimum_contributors <= self.maximum_contributors:
            raise InvalidArgumentError(
                "COHORT_BOUNDS",
                "a sum has at least 2 contributors, and its minimum is not above its maximum",
            )
        self.layout()

    def layout(self) -> VectorLayout:
        """Returns how the values lie in a contribution."""
        section = CountSection(_SECTION, len(self.labels), self.maximum)
        return VectorLayout((section,), self.maximum_contributors)

    def values(self, given: Mapping[str, int]) -> dict[str, NDArray[np.uint64]]:
        """Returns one contributor's values as the layout takes them; labels left out count as 0.

        Raises:
            InvalidArgumentError: `LABEL_UNKNOWN` or `VALUE_OUT_OF_RANGE`; the contributor's.
        """
        strangers = sorted(given.keys() - set(self.labels))
        if strangers:
            raise InvalidArgumentError(
                "LABEL_UNKNOWN",
                f"the sum has no label {strangers[0]!r}; leave it out, or ask for another sum",
            )
        for label, value in given.items():
            if type(value) is not int or not 0 <= value <= self.maximum:
                raise InvalidArgumentError(
                    "VALUE_OUT_OF_RANGE",
                    f"the value of {label!r} is no integer from 0 to the sum's maximum "
                    f"{self.maximum}",
                )
        return {_SECTION: np.array([given.get(label, 0) for label in self.labels], np.uint64)}

    def totals(self, sums: Mapping[str, NDArray[np.generic]]) -> tuple[int, ...]:
        """Returns the totals in the order of the labels, from what `EncryptionKey.combine` gave."""
        return tuple(int(total) for total in sums[_SECTION])

    def binding(self, name: str, spec: bytes, nonce: bytes, key_digest: bytes) -> EncryptedContext:
        """Returns what contributions and trustees' answers are bound to.

        Args:
            name: resource name of the sum, `federations/{federation}/sums/{sum}`.
            spec: canonical bytes of the whole specification, these terms among it.
            nonce: 32 random bytes, drawn when the sum was created.
            key_digest: of the encryption key, 32 bytes.

        Raises:
            InvalidArgumentError: what `SumSubject` and `EncryptedContext` refuse.
        """
        federation, sum_ = name.split("/")[1::2]
        return EncryptedContext(
            federation=federation,
            subject=SumSubject(sum_, nonce, transcript.digest("sum", name, spec)),
            key_name=self.key_name,
            key_digest=key_digest,
            minimum_cohort=self.minimum_contributors,
            maximum_cohort=self.maximum_contributors,
            layout_digest=self.layout().digest(),
        )
