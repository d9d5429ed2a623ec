"""Bytes that one client sends and receives in a round, against its plain quantised vector.

Counted on serialised messages of the wire contract, filled with data of the right lengths.
"""

import os

import numpy as np
from finsecure.aggregation.v1 import participation_pb2 as wire
from finsecure.aggregation.v1.models_pb2 import Chunk
from finsecure_crypto.encoding import RealSection, VectorLayout
from finsecure_crypto.merkle import HASH_BYTES
from finsecure_crypto.secagg import envelope
from finsecure_crypto.secagg.graph import Graph
from finsecure_crypto.secagg.parameters import Profile, RoundParameters
from finsecure_crypto.shamir import SHARE_BYTES
from google.protobuf.message import Message

from benchmarks.figures import Figure, Figures, Progress
from benchmarks.identities import Identities
from benchmarks.rounds import SPARSE

VALUE_BITS = 16
CHUNK_BYTES = 2**20
_ROUND = "federations/lending/tasks/benchmark/rounds/1-1"
_FRAME_BYTES = 5  # gRPC's prefix of each message


def measure(
    progress: Progress, *, rosters: tuple[int, ...] = (2**10, 2**14), values: int = 2**20
) -> Figures:
    """Counts the bytes of a round without drop-outs for the active profile.

    The plain vector has `VALUE_BITS` bits a value, as in table 3 of Bonawitz et al. (CCS 2017).
    """
    certificate = Identities.issue(1).clients[0].certificate
    figures: Figures = {}
    for roster in rosters:
        plain = values * VALUE_BITS // 8
        for graph in ("sparse", "complete"):
            progress(f"expansion: {roster} clients, {values} values, {graph} graph")
            parameters = _parameters(roster, values, sparse=graph == "sparse")
            sent, received, neighbours = _traffic(parameters, roster, certificate)
            suffix = f"{roster}x{values}.{graph}"
            figures[f"expansion.{suffix}"] = Figure((sent / plain,))
            figures[f"expansion_received.{suffix}"] = Figure((received / plain,))
            figures[f"expansion_encoding.{suffix}"] = Figure((parameters.input_bytes / plain,))
            figures[f"neighbours.{suffix}"] = Figure((float(neighbours),))
    return figures


def _parameters(roster: int, values: int, *, sparse: bool) -> RoundParameters:
    return RoundParameters(
        federation="lending",
        task="benchmark",
        round_number=1,
        attempt=1,
        attempt_nonce=bytes(32),
        model_digest=bytes(32),
        task_digest=bytes(32),
        profile=Profile.ACTIVE,
        graph=SPARSE if sparse else None,
        minimum_cohort=2,
        layout=VectorLayout((RealSection("update", values, 1.0, VALUE_BITS),), roster),
    )


def _traffic(parameters: RoundParameters, roster: int, certificate: bytes) -> tuple[int, int, int]:
    """Returns bytes sent, bytes received (the model left out), and the number of neighbours."""
    thresholds = parameters.thresholds(roster)
    graph = Graph.build(thresholds, os.urandom(32))
    own = roster // 2
    neighbours, holders = graph.neighbours(own).tolist(), graph.holders(own).tolist()
    advertisement = wire.KeyAdvertisement(
        client=f"bank-{own:05d}",
        channel_key=os.urandom(32),
        mask_key=os.urandom(32),
        signature=os.urandom(64),
        certificate=certificate,
    )
    ciphertexts = bytes(envelope.CIPHERTEXT_BYTES * len(neighbours))
    everybody = np.packbits(np.ones(len(holders), np.bool_)).tobytes()
    sent: list[Message] = [
        wire.AdvertiseKeysRequest(round=_ROUND, advertisement=advertisement),
        wire.ShareKeysRequest(
            round=_ROUND,
            ciphertexts=ciphertexts,
            self_mask_commitment=os.urandom(32),
            signature=os.urandom(64),
        ),
        wire.SubmitInputRequest(
            header=wire.InputHeader(
                round=_ROUND,
                size_bytes=parameters.input_bytes,
                sha256=os.urandom(32),
                signature=os.urandom(64),
            )
        ),
        wire.ConfirmSurvivorsRequest(round=_ROUND, signature=os.urandom(64)),
        wire.RevealSharesRequest(
            round=_ROUND,
            self_mask_shares=bytes(SHARE_BYTES * len(holders)),
            unreadable=everybody,
        ),
    ]
    sent += [
        wire.SubmitInputRequest(
            chunk=Chunk(
                offset=start,
                content=bytes(min(CHUNK_BYTES, parameters.input_bytes - start)),
                crc32=1,
            )
        )
        for start in range(0, parameters.input_bytes, CHUNK_BYTES)
    ]
    proof = [bytes(HASH_BYTES)] * ((roster - 1).bit_length() if not thresholds.complete else 0)
    bitmap = np.packbits(np.ones(roster, np.bool_)).tobytes()
    received: list[Message] = [
        wire.Roster(
            size=roster,
            root=bytes(HASH_BYTES),
            index=own,
            entries=[
                wire.RosterEntry(index=peer, advertisement=advertisement, inclusion_proof=proof)
                for peer in sorted([own, *neighbours])
            ],
        ),
        wire.ShareDelivery(sharers=bitmap, ciphertexts=ciphertexts),
        wire.Survivors(survivors=bitmap),
        wire.Confirmations(signers=everybody, signatures=bytes(64 * len(holders))),
    ]
    return _bytes(sent), _bytes(received), thresholds.neighbours


def _bytes(messages: list[Message]) -> int:
    return sum(_FRAME_BYTES + message.ByteSize() for message in messages)
