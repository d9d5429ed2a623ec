"""What audited sums this member contributes to; nobody else can lower these bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from finsecure_crypto.errors import PolicyError
from finsecure_crypto.homomorphic.sums import SumTerms


@dataclass(frozen=True)
class SumPolicy:
    """The limits that the client's owner has pinned.

    Attributes:
        federation: the only federation whose sums are accepted.
        sums: patterns of ids of sums; without any, nothing is contributed.
        minimum_contributors: fewest members among whom a value is hidden.
        maximum_value: no larger value is contributed.
        encryption_keys: patterns of ids of encryption keys.
    """

    federation: str
    sums: tuple[str, ...] = ()
    minimum_contributors: int = 50
    maximum_value: int = 10**12
    encryption_keys: tuple[str, ...] = ("*",)

    def check(self, name: str, terms: SumTerms, values: Mapping[str, int]) -> None:
        """Check a sum's terms and the own values before anything is encrypted.

        Raises:
            PolicyError: SUM_NOT_ALLOWED, GROUP_BELOW_POLICY, KEY_NOT_ALLOWED, VALUE_ABOVE_POLICY;
                the sum's creator has to change the terms, or the client's owner the policy.
        """
        if not self._allows("sums", self.sums, name):
            raise PolicyError(
                "SUM_NOT_ALLOWED", f"{name} matches none of sums in [sums]; add it there"
            )
        if terms.minimum_contributors < self.minimum_contributors:
            raise PolicyError(
                "GROUP_BELOW_POLICY",
                f"the sum may be opened with {terms.minimum_contributors} contributors; "
                f"minimum_contributors in [sums] is {self.minimum_contributors}",
            )
        if not self._allows("encryptionKeys", self.encryption_keys, terms.key_name):
            raise PolicyError(
                "KEY_NOT_ALLOWED",
                f"{terms.key_name} matches none of encryption_keys in [sums]",
            )
        for label, value in values.items():
            if value > self.maximum_value:
                raise PolicyError(
                    "VALUE_ABOVE_POLICY",
                    f"the value of {label!r} is above maximum_value {self.maximum_value} in [sums]",
                )

    def _allows(self, collection: str, patterns: tuple[str, ...], name: str) -> bool:
        match name.split("/"):
            case ["federations", self.federation, found, id_] if found == collection:
                return any(fnmatchcase(id_, pattern) for pattern in patterns)
        return False
