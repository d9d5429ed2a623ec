"""Resource names of members and federations, and the SPIFFE IDs that follow from them."""

import re
from dataclasses import dataclass
from typing import Self

from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_rpc.resource_names import ID, matched

_FEDERATION = re.compile(rf"federations/({ID})", re.ASCII)
_MEMBER = re.compile(
    rf"(?:(viewers|operators|officers)|federations/({ID})/(clients|aggregators|trustees))/({ID})",
    re.ASCII,
)
_MEMBER_FORM = (
    "viewers/{id}, operators/{id}, officers/{id} or federations/{federation}/{role}/{id}, where "
    "the role is clients, aggregators or trustees"
)
_COLLECTIONS = {
    "viewers": Role.VIEWER,
    "operators": Role.OPERATOR,
    "officers": Role.OFFICER,
    "clients": Role.CLIENT,
    "aggregators": Role.AGGREGATOR,
    "trustees": Role.TRUSTEE,
}
_COLLECTION_OF = {role: collection for collection, role in _COLLECTIONS.items()}


def federation_id(name: str) -> str:
    """Read the id out of `federations/{id}`.

    Raises:
        InvalidArgumentError: NAME_MALFORMED; the caller's mistake.
    """
    return matched(_FEDERATION, name, "federations/{federation}")[1]


def trust_domain(federation: str | None, domain: str) -> str:
    """SPIFFE trust domain of a federation, or of the domain level itself (None)."""
    return domain if federation is None else f"{federation}.{domain}"


@dataclass(frozen=True)
class MemberName:
    """A member's place: its federation (None for people who administer), its role and its id."""

    federation: str | None
    role: Role
    id: str

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a resource name.

        Raises:
            InvalidArgumentError: NAME_MALFORMED; the caller's mistake.
        """
        match = matched(_MEMBER, name, _MEMBER_FORM)
        return cls(match[2], _COLLECTIONS[match[1] or match[3]], match[4])

    @property
    def parent(self) -> str:
        """`federations/{federation}`, or empty for people who administer."""
        return "" if self.federation is None else f"federations/{self.federation}"

    def spiffe_id(self, domain: str) -> SpiffeId:
        """The one identity that this member's certificates carry."""
        return SpiffeId(trust_domain(self.federation, domain), self.role, self.id)

    def __str__(self) -> str:
        path = f"{_COLLECTION_OF[self.role]}/{self.id}"
        return path if self.federation is None else f"{self.parent}/{path}"
