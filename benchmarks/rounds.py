"""Whole rounds through the production protocol core: CPU seconds of the server and of a client.

The published baseline's work (Bonawitz et al., CCS 2017): 1000 clients, 100 000 values, with
signatures and the consistency round. Raw cost is what the round's own keystream bytes, X25519
operations and signature checks take when nothing else is done.
"""

import gc
import hashlib
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from finsecure_crypto.encoding import RealSection, VectorLayout
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.secagg.parameters import Profile, RoundParameters, SparseGraph
from finsecure_crypto.secagg.server import CollectAdvertisements

from benchmarks import raw
from benchmarks.cohort import Cohort, Play, Stopwatch
from benchmarks.figures import Figure, Figures, Progress
from benchmarks.identities import Identities

DROPOUTS = (0, 10, 30)
"""Per cent."""
SPARSE = SparseGraph(corrupt_fraction=0.05, dropout_fraction=0.33)
HEADLINE = "complete.active"
"""What the keys without a graph and a profile stand for: the published baseline's setting."""
VARIANTS = (HEADLINE, "complete.semi_honest", "sparse.active", "sparse.semi_honest")
QUICK = (HEADLINE, "sparse.active", "sparse.semi_honest")


@dataclass(frozen=True)
class RawCosts:
    """Seconds of one operation, measured in the same run."""

    keystream_byte: float
    exchange: float
    signature_check: float
    hashed_byte: float

    @classmethod
    def measure(cls) -> "RawCosts":
        """Measures them, in about a second and a half."""
        return cls(
            1 / (raw.openssl_ctr() * 1e9),
            raw.x25519_seconds(),
            raw.ed25519_verify_seconds(),
            raw.sha256_seconds_per_byte(),
        )


@dataclass(frozen=True)
class Outcome:
    """One round.

    Attributes:
        server: CPU seconds by phase.
        client: CPU seconds by phase, of the production client.
        raw: CPU seconds of keystream, X25519 and signature checks alone.
        hashing: CPU seconds of SHA-256, once, over all that is signed: vectors and shares.
    """

    server: dict[str, float]
    client: dict[str, float]
    raw: float
    hashing: float


def measure(
    repetitions: int,
    progress: Progress,
    *,
    clients: int = 1000,
    values: int = 100_000,
    variants: Iterable[str] = VARIANTS,
    dropouts: Iterable[int] = DROPOUTS,
) -> Figures:
    """Plays rounds with 0, 10 and 30 % drop-outs after ShareKeys, for each graph and profile."""
    progress(f"rounds: {clients} certificates")
    identities = Identities.issue(clients)
    figures: Figures = {}
    for variant in variants:
        progress(f"rounds, {variant}: the clients' keys and shares")
        cohort = Cohort(parameters_of(variant, clients, values), identities)
        for percent in dropouts:
            outcomes = []
            for repetition in range(repetitions):
                progress(f"rounds, {variant}, {percent} % gone, {repetition + 1} of {repetitions}")
                peers = [index for index in range(clients) if index != cohort.own]
                dropped = frozenset(random.sample(peers, clients * percent // 100))
                # On a shared machine the raw costs of a while ago are those of another machine.
                outcomes.append(play(cohort, dropped, RawCosts.measure()))
            suffix = f"{percent}" if variant == HEADLINE else f"{percent}.{variant}"
            figures |= _figures(suffix, outcomes)
        del cohort
    return figures


def parameters_of(variant: str, clients: int, values: int) -> RoundParameters:
    """Returns the round of a variant such as `sparse.active`: 16-bit values for all clients."""
    graph, profile = variant.split(".")
    return RoundParameters(
        federation="lending",
        task="benchmark",
        round_number=1,
        attempt=1,
        attempt_nonce=os.urandom(32),
        model_digest=os.urandom(32),
        task_digest=os.urandom(32),
        profile=Profile(profile),
        graph=SPARSE if graph == "sparse" else None,
        minimum_cohort=2,
        layout=VectorLayout((RealSection("update", values, 1.0, 16),), clients),
    )


def play(cohort: Cohort, dropped: frozenset[int], costs: RawCosts) -> Outcome:
    """Plays one round and checks its sum against the plain one.

    Server time has all of the core's work and, since the ingesting service does them for every
    input, the SHA-256 of each vector, the summing and the decoding. Making the clients' messages
    and reading them from the wire is not in it.
    """
    watch, clients = Stopwatch(), cohort.identities.clients
    ids = [each.client_id for each in clients]
    parameters, moves = cohort.parameters, cohort.play(dropped)
    # The emulated clients are no part of a server; its collector shall not walk through them.
    gc.collect()
    gc.freeze()
    try:
        advertising = CollectAdvertisements(
            parameters, frozenset(ids), cohort.identities.verify_peer
        )
        watch.time("advertise keys", lambda: _all(map(advertising.accept, cohort.advertisements)))
        sharing = watch.time("advertise keys", advertising.close)
        watch.time("share keys", lambda: _all(bool(sharing.roster.for_client(id_)) for id_ in ids))
        watch.time("share keys", lambda: _all(map(sharing.accept, ids, cohort.dealt)))
        inputs = watch.time("share keys", sharing.close)
        watch.time("route shares", lambda: _all(bool(inputs.delivery(id_)) for id_ in ids))

        total = np.zeros(parameters.layout.words, np.uint64)
        for index, header, words in moves.inputs(inputs.delivery(ids[cohort.own])):
            id_ = ids[index]
            assert watch.time("check inputs", inputs.accept, id_, header)
            digest = watch.time(
                "hash inputs", lambda data: hashlib.sha256(data).digest(), words.data
            )
            assert digest == header.sha256
            watch.time("sum inputs", np.add, total, words, total)
        confirming = watch.time("check inputs", inputs.close)

        confirmations = list(moves.confirm(confirming.survivors))
        watch.time(
            "confirm survivors",
            lambda: _all(confirming.accept(ids[index], said) for index, said in confirmations),
        )
        revealing = watch.time("confirm survivors", confirming.close)
        watch.time(
            "confirm survivors",
            lambda: _all(bool(revealing.confirmations(ids[i])) for i in moves.survivors),
        )
        for index, said in moves.reveal(revealing.confirmations(ids[cohort.own])):
            id_ = ids[index]
            assert watch.time("collect shares", revealing.accept, id_, said)
        unmasking = watch.time("rebuild secrets", revealing.close)
        watch.time("remove masks", apply_masks, total, unmasking.masks)
        watch.time("decode sum", parameters.layout.decode, total, unmasking.contributors)
    finally:
        gc.unfreeze()
    assert np.array_equal(total, moves.plain_sum())
    return Outcome(
        watch.seconds,
        dict(cohort.client.stopwatch.seconds),
        _raw_seconds(costs, cohort, moves, len(unmasking.masks), len(dropped)),
        costs.hashed_byte * _signed_bytes(cohort, moves),
    )


def _raw_seconds(costs: RawCosts, cohort: Cohort, moves: Play, masks: int, dropped: int) -> float:
    survivors, everybody = len(moves.survivors), len(cohort.advertisements)
    # Two advertised keys are probed; a drop-out's public key is made once to check its seed; each
    # of its pairwise masks, which are all but the survivors' self masks, takes one exchange.
    exchanges = 2 * everybody + dropped + masks - survivors
    # Advertisement and shares of everybody, input and confirmation of the survivors.
    checks = 2 * everybody + 2 * survivors
    keystream = masks * cohort.parameters.input_bytes
    return (
        keystream * costs.keystream_byte
        + exchanges * costs.exchange
        + checks * costs.signature_check
    )


def _signed_bytes(cohort: Cohort, moves: Play) -> int:
    shares = sum(len(each.ciphertexts) for each in cohort.dealt)
    return shares + len(moves.survivors) * cohort.parameters.input_bytes


def _all(answers: Iterable[bool]) -> None:
    assert all(list(answers))


def _figures(suffix: str, outcomes: list[Outcome]) -> Figures:
    def each(quantity) -> Figure:  # type: ignore[no-untyped-def]
        return Figure(tuple(quantity(outcome) for outcome in outcomes), "s")

    figures = {
        f"server_seconds.{suffix}": each(lambda o: sum(o.server.values())),
        f"raw_seconds.{suffix}": each(lambda o: o.raw),
        f"client_seconds.{suffix}": each(lambda o: sum(o.client.values())),
        f"server_ratio_to_raw.{suffix}": Figure(
            tuple(sum(o.server.values()) / o.raw for o in outcomes)
        ),
        f"server_ratio_to_raw_and_hashing.{suffix}": Figure(
            tuple(sum(o.server.values()) / (o.raw + o.hashing) for o in outcomes)
        ),
    }
    for phase in outcomes[0].server:
        name = phase.replace(" ", "_")
        figures[f"server_phase.{name}.{suffix}"] = each(lambda o, p=phase: o.server[p])
    for phase in outcomes[0].client:
        name = phase.replace(" ", "_")
        figures[f"client_phase.{name}.{suffix}"] = each(lambda o, p=phase: o.client[p])
    return figures
