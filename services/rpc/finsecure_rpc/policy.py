"""Who may call which method, for how long and how often. What is not declared is denied."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType, ModuleType

from finsecure_crypto.certificates import Role, SpiffeId


class Anyone(Enum):
    """Type of `ANYONE`."""

    ANYONE = "anyone"


ANYONE = Anyone.ANYONE
"""Callers without a certificate may call the method too."""

Access = frozenset[Role] | Anyone
Policy = Mapping[str, Access]
"""From the full method name, `/package.Service/Method`, to who may call it."""

Accepts = Callable[[SpiffeId], bool]

EVERY_ROLE: Access = frozenset(Role)
OFFICERS: frozenset[Role] = frozenset({Role.OFFICER})
ADMINISTRATORS: frozenset[Role] = OFFICERS | {Role.OPERATOR}
READERS: frozenset[Role] = ADMINISTRATORS | {Role.VIEWER}
"""People, by what they may do: each role may all that the one before it may."""
MEMBERS: frozenset[Role] = READERS | {Role.CLIENT, Role.AGGREGATOR, Role.TRUSTEE}
"""People, and the members of federations."""

HEALTH_POLICY: Policy = MappingProxyType(
    {
        "/grpc.health.v1.Health/Check": ANYONE,
        "/grpc.health.v1.Health/List": EVERY_ROLE,
        "/grpc.health.v1.Health/Watch": EVERY_ROLE,
    }
)
REFLECTION_POLICY: Policy = MappingProxyType(
    {
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": EVERY_ROLE,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": EVERY_ROLE,
    }
)


@dataclass(frozen=True)
class Rate:
    """A token bucket: `per_second` calls in the long run, `burst` at once."""

    per_second: float
    burst: float

    def __post_init__(self) -> None:
        if not (self.per_second > 0 and self.burst >= 1):
            raise ValueError("a rate needs per_second > 0 and burst >= 1")

    @classmethod
    def steady(cls, per_second: float) -> "Rate":
        """A rate whose burst is what comes in four seconds, but at least one call."""
        return cls(per_second, max(1.0, per_second * 4.0))


@dataclass(frozen=True)
class Limits:
    """Bounds on every call.

    Attributes:
        deadline_s: longest deadline that a caller may set.
        deadlines: longer or shorter bounds for single methods, by full name.
        rate: calls for each identity.
        anonymous_rate: calls without a certificate, for each address.
        recheck_s: how often the callers of open streams are checked again.
        streams: open streams of each identity at once, so that none takes all that there are.
        awaited: calls of one address at once whose request has not arrived yet.
    """

    deadline_s: float = 60.0
    deadlines: Mapping[str, float] = field(default_factory=dict)
    rate: Rate = Rate(per_second=200.0, burst=400.0)
    anonymous_rate: Rate = Rate(per_second=5.0, burst=20.0)
    recheck_s: float = 1.0
    streams: int = 64
    awaited: int = 2000

    def deadline_of(self, method: str) -> float:
        """Longest deadline of a method, in seconds."""
        return self.deadlines.get(method, self.deadline_s)


def federation_peers(trust_domain: str) -> Accepts:
    """Callers that a server of one federation lets in.

    They are the members of that federation and, from the domain above it, operators and the key
    service.
    """
    domain = trust_domain.partition(".")[2]

    def accepts(spiffe_id: SpiffeId) -> bool:
        return spiffe_id.trust_domain == (trust_domain if spiffe_id.role.federated else domain)

    return accepts


def domain_peers(domain: str) -> Accepts:
    """Callers that the key service lets in: everyone in its domain or one of its federations."""

    def accepts(spiffe_id: SpiffeId) -> bool:
        if spiffe_id.role.federated:
            return spiffe_id.trust_domain.partition(".")[2] == domain
        return spiffe_id.trust_domain == domain

    return accepts


def for_people(policy: Policy) -> frozenset[str]:
    """Methods that people may call, whoever else may."""
    return frozenset(
        method for method, access in policy.items() if access is not ANYONE and access & READERS
    )


def for_people_alone(policy: Policy) -> frozenset[str]:
    """Methods that people may call and nobody else."""
    return frozenset(
        method
        for method, access in policy.items()
        if access is not ANYONE and access and access <= READERS
    )


def methods_of(*modules: ModuleType) -> set[str]:
    """Full names of all methods of the services in generated `_pb2` modules."""
    return {
        f"/{service.full_name}/{method.name}"
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def undeclared(policy: Policy, *modules: ModuleType) -> set[str]:
    """Methods in generated `_pb2` modules that the policy forgets."""
    return methods_of(*modules) - policy.keys()
