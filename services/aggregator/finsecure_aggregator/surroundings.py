"""What every round of the process shares."""

from dataclasses import dataclass

from finsecure_rpc.federation_minima import Minima

from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.clock import Clock
from finsecure_aggregator.encryption import EncryptionDesk
from finsecure_aggregator.endorsements import Endorsements
from finsecure_aggregator.slices import Slices
from finsecure_aggregator.store import Store
from finsecure_aggregator.verifier import PeerVerifier
from finsecure_aggregator.watchers import Changes, Presence


@dataclass(frozen=True)
class Surroundings:
    """What every round of the process shares.

    Attributes:
        store: durable state.
        blobs: files.
        clock: time.
        changes: wakes whoever watches a task.
        turns: wakes the clients' streams.
        presence: who is connected.
        verifier: checks clients' signing certificates.
        grace_ns: how long a phase waits for a client that has lost its connection, once enough
            others have answered.
        slices: where masked inputs are summed.
        encryption: what encrypted rounds need.
        endorsements: have model versions signed by a managed key.
        minima: what the federation demands of cohorts.
    """

    store: Store
    blobs: Blobs
    clock: Clock
    changes: Changes
    turns: Changes
    presence: Presence
    verifier: PeerVerifier
    grace_ns: int
    slices: Slices
    encryption: EncryptionDesk
    endorsements: Endorsements
    minima: Minima
