"""A federation in one process: clients with real keys, certificates replaced by a registry."""

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from finsecure_crypto import signing
from finsecure_crypto.encoding import CountSection, VectorLayout
from finsecure_crypto.errors import AuthenticationError
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.randomness import Randomness
from finsecure_crypto.secagg import client as client_side
from finsecure_crypto.secagg import server as server_side
from finsecure_crypto.secagg.client import Identity
from finsecure_crypto.secagg.messages import KeyAdvertisement
from finsecure_crypto.secagg.parameters import (
    ClientPolicy,
    Profile,
    RoundParameters,
    SparseGraph,
)
from finsecure_crypto.secagg.phases import Phase
from finsecure_crypto.secret import SecretBytes
from numpy.typing import NDArray

Words = NDArray[np.uint64]

PERMISSIVE = ClientPolicy(
    minimum_cohort=2, minimum_threshold=2, minimum_profile=Profile.SEMI_HONEST
)
# With so few clients no sparse graph reaches 2^-40; these fractions give one at small sizes.
SPARSE = SparseGraph(corrupt_fraction=0.0, dropout_fraction=0.05)


def deterministic(seed: str) -> Randomness:
    """Random bytes that a test can replay: SHA-256 in counter mode."""
    counter = itertools.count()

    def draw(length: int) -> bytes:
        block = hashlib.shake_256(f"{seed}/{next(counter)}".encode())
        return block.digest(length)

    return draw


def make_parameters(
    cohort: int,
    *,
    length: int = 5,
    minimum_cohort: int = 2,
    profile: Profile = Profile.ACTIVE,
    graph: SparseGraph | None = None,
    **changes: object,
) -> RoundParameters:
    fields: dict[str, object] = {
        "federation": "lending",
        "task": "default-risk",
        "round_number": 3,
        "attempt": 1,
        "attempt_nonce": bytes(range(32)),
        "model_digest": b"m" * 32,
        "task_digest": b"t" * 32,
        "profile": profile,
        "graph": graph,
        "minimum_cohort": minimum_cohort,
        "layout": VectorLayout((CountSection("values", length, 2**40 - 1),), cohort),
    }
    return RoundParameters(**{**fields, **changes})  # type: ignore[arg-type]


@dataclass
class Federation:
    """Identities, and the check of their certificates."""

    identities: dict[str, Identity]
    revoked: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, size: int, prefix: str = "bank") -> "Federation":
        return cls(
            {(name := f"{prefix}-{number:05d}"): make_identity(name) for number in range(size)}
        )

    def verify_peer(self, client: str, certificate: bytes) -> bytes:
        known = self.identities.get(client)
        if known is None or certificate != known.certificate or client in self.revoked:
            raise AuthenticationError("CERTIFICATE_UNTRUSTED", f"no certificate of {client}")
        return known.signing_key.public


def make_identity(name: str) -> Identity:
    key = signing.SigningKey.from_seed(SecretBytes(hashlib.sha256(name.encode()).digest()))
    return Identity(name, b"certificate of " + name.encode(), key)


def make_inputs(parameters: RoundParameters, clients: list[str], seed: int = 7) -> dict[str, Words]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, 2**64, parameters.layout.words, dtype=np.uint64) for name in clients
    }


def plain_sum(inputs: Mapping[str, Words], survivors: tuple[str, ...]) -> Words:
    total = np.zeros(len(next(iter(inputs.values()))), np.uint64)
    for name in survivors:
        total += inputs[name]
    return total


Leaves = Mapping[Phase, frozenset[str]]
"""Clients that stop before they answer a phase."""


@dataclass
class Run:
    """How a whole round went, with everything that was said."""

    total: Words
    unmasking: server_side.Unmasking
    masked: dict[str, Words]
    survivors: tuple[str, ...]


def run_round(
    parameters: RoundParameters,
    federation: Federation,
    inputs: Mapping[str, Words],
    leaves: Leaves | None = None,
    *,
    randomness: Callable[[str], Randomness] = deterministic,
    policy: ClientPolicy = PERMISSIVE,
) -> Run:
    """Runs one round with the production functions; raises where one side gives up."""
    leaving = leaves or {}
    verify = federation.verify_peer

    def stay(phase: Phase, names: list[str]) -> list[str]:
        return [name for name in names if name not in leaving.get(phase, frozenset())]

    random = {name: randomness(name) for name in inputs}
    advertising = server_side.CollectAdvertisements(parameters, frozenset(inputs), verify)
    names = stay(Phase.ADVERTISE_KEYS, list(inputs))
    rosters = {}
    for name in names:
        rosters[name], said = client_side.advertise_keys(
            parameters, federation.identities[name], random[name], policy=policy
        )
        assert advertising.accept(said)
    sharing = advertising.close()

    names = stay(Phase.SHARE_KEYS, names)
    shares = {}
    for name in names:
        shares[name], dealt = rosters[name].share_keys(
            sharing.roster.for_client(name), verify, random[name]
        )
        assert sharing.accept(name, dealt)
    collecting = sharing.close()

    names = stay(Phase.SUBMIT_MASKED_INPUT, names)
    masked, waiting = {}, {}
    for name in names:
        waiting[name], submitted = shares[name].mask_input(
            collecting.delivery(name), inputs[name].copy()
        )
        masked[name] = submitted.words
        assert collecting.accept(name, submitted.header)
    confirming = collecting.close()

    names = stay(Phase.CONFIRM_SURVIVORS, names)
    confirmed = {}
    for name in names:
        confirmed[name], signed = waiting[name].confirm_survivors(confirming.survivors)
        assert confirming.accept(name, signed)
    revealing = confirming.close()

    for name in stay(Phase.REVEAL_SHARES, names):
        _, revealed = confirmed[name].reveal_shares(revealing.confirmations(name))
        assert revealing.accept(name, revealed)
    unmasking = revealing.close()
    total = plain_sum(masked, unmasking.survivors)
    apply_masks(total, unmasking.masks)
    return Run(total, unmasking, masked, unmasking.survivors)


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cuts a byte string into items of one size; the last may be shorter."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def swap(advertisement: KeyAdvertisement, **changes: object) -> KeyAdvertisement:
    return KeyAdvertisement(**{**vars(advertisement), **changes})  # type: ignore[arg-type]
