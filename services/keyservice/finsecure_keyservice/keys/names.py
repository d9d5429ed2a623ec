"""Resource names of key rings, keys, versions and import jobs."""

import re
from dataclasses import dataclass
from typing import Self

from finsecure_rpc.resource_names import ID, matched

_RING = rf"(federations/{ID})/keyRings/{ID}"
_RING_NAME = re.compile(_RING, re.ASCII)
_KEY_NAME = re.compile(rf"({_RING})/cryptoKeys/{ID}", re.ASCII)
_VERSION_NAME = re.compile(rf"({_RING}/cryptoKeys/{ID})/cryptoKeyVersions/([1-9][0-9]{{0,8}})")
_JOB_NAME = re.compile(rf"({_RING})/importJobs/{ID}", re.ASCII)


def federation_of(name: str) -> str:
    """`federations/{id}` at the front of any name below a federation."""
    return "/".join(name.split("/", 2)[:2])


def ring_parent(name: str) -> str:
    """The federation of `federations/*/keyRings/*`.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
    """
    return matched(_RING_NAME, name, "federations/{id}/keyRings/{id}")[1]


def key_parent(name: str) -> str:
    """The ring of `federations/*/keyRings/*/cryptoKeys/*`.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
    """
    return matched(_KEY_NAME, name, "federations/{id}/keyRings/{id}/cryptoKeys/{id}")[1]


def job_parent(name: str) -> str:
    """The ring of `federations/*/keyRings/*/importJobs/*`.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
    """
    return matched(_JOB_NAME, name, "federations/{id}/keyRings/{id}/importJobs/{id}")[1]


@dataclass(frozen=True)
class VersionName:
    """`{key}/cryptoKeyVersions/{number}`."""

    key: str
    number: int

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name.

        Raises:
            InvalidArgumentError: NAME_MALFORMED.
        """
        match = matched(_VERSION_NAME, name, "{crypto key}/cryptoKeyVersions/{number}")
        return cls(match[1], int(match[3]))

    def __str__(self) -> str:
        return f"{self.key}/cryptoKeyVersions/{self.number}"
