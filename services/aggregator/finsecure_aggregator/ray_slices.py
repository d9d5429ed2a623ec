"""Slices on the machines of a Ray cluster (`pip install finsecure[ray]`).

The aggregator reads the inputs and sends each worker its own words of them, so workers need no
access to the aggregator's disk. At the end it sends the masks' keys and takes the sum.

What Ray serialises of ours are integers, bytes and uint64 arrays; the class of the workers goes by
its name, so the same release of FinSecure is installed on every node. Keys travel in messages
below Ray's limit for inline arguments (100 kB): they are not put into an object store, which may
spill to a disk. Ray retries nothing here: a lost slice is summed again from the inputs' files.
"""

import contextlib
import itertools
import logging
import socket
from collections import deque
from pathlib import Path
from typing import Any

import ray
from finsecure_crypto.errors import UnavailableError
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from finsecure_aggregator.slices import (
    Masks,
    PartialSum,
    SliceLostError,
    Span,
    Words,
    packed,
    read_span,
    unpacked,
)

_TILE_WORDS = 1 << 20  # 8 MiB: what is sent at once
_IN_FLIGHT = 4  # messages to one worker that are not confirmed; what of a slice lies in its store
_CONNECT_S = 10


class SliceActor:
    """Holds a slice on a node of the cluster."""

    def __init__(self, first_word: int, words: int) -> None:
        self._sum = PartialSum(Span(first_word, words))

    def add(self, at: int, words: Words) -> None:
        """Add words that start `at` words into the slice."""
        self._sum.add(words, at)

    def mask(self, message: bytes) -> None:
        """Add masks as `packed` writes them."""
        self._sum.mask(unpacked(message))

    def take(self, at: int, words: int) -> Words:
        """Some words of the sum."""
        return self._sum.words[at : at + words]


class RaySlice:
    """A slice in an actor.

    Args:
        span: its words.
        node: id of the node where it should live; on another one if that is gone.
        silence_s: a worker that says nothing for so long is taken for dead.
    """

    def __init__(self, span: Span, node: str, silence_s: float) -> None:
        self._span = span
        self._silence_s = silence_s
        self._unconfirmed: deque[Any] = deque()
        # Without num_cpus an actor takes no share of a node while it waits for inputs, so rounds
        # do not block one another.
        actors = ray.remote(SliceActor).options(
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True),
        )
        self.actor: Any = actors.remote(span.first_word, span.words)

    def add_input(self, path: Path) -> None:
        """Send the worker its words of a file.

        Raises:
            SliceLostError: the slice has to be summed again from the inputs.
            IntegrityError: BLOB_TRUNCATED; the slice is of no more use.
        """
        for at, tile in read_span(path, self._span, _TILE_WORDS):
            self._send(self.actor.add, at, tile)

    def unmask(self, masks: Masks, out: Words) -> None:
        """Let the worker add the masks, and take the sum from it.

        Raises:
            SliceLostError: the slice has to be summed again from the inputs.
        """
        for message in packed(masks, self._span):
            self._send(self.actor.mask, message)
        self._confirm(0)
        for at in range(0, self._span.words, _TILE_WORDS):
            count = min(_TILE_WORDS, self._span.words - at)
            try:
                found = ray.get(self.actor.take.remote(at, count), timeout=self._silence_s)
            except RayError as error:
                raise _lost(error) from error
            out[at : at + count] = found

    def _send(self, method: Any, *arguments: Any) -> None:
        self._confirm(_IN_FLIGHT - 1)
        try:
            self._unconfirmed.append(method.remote(*arguments))
        except RayError as error:
            raise _lost(error) from error

    def _confirm(self, left: int) -> None:
        """Wait until no more than so many messages are unconfirmed."""
        while len(self._unconfirmed) > left:
            try:
                ray.get(self._unconfirmed[0], timeout=self._silence_s)
            except RayError as error:
                raise _lost(error) from error
            self._unconfirmed.popleft()

    def close(self) -> None:
        """Kill the worker; it has nothing to lose."""
        with contextlib.suppress(RayError):
            ray.kill(self.actor, no_restart=True)


class RaySlices:
    """Connects to a cluster and opens slices on it. One in a process; not in its main thread.

    Args:
        workers: slices for each round.
        address: `host:port` of the head of the cluster that this machine is a member of.
        silence_s: a worker that says nothing for so long is taken for dead.

    Raises:
        UnavailableError: CLUSTER_UNREACHABLE.
    """

    def __init__(self, workers: int, address: str, silence_s: float) -> None:
        self.workers = workers
        self._silence_s = silence_s
        self._turn = itertools.count()
        try:
            # Ray itself would try for minutes.
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
            ray.init(
                address=address,
                namespace="finsecure-aggregator",
                configure_logging=False,
                logging_level=logging.WARNING,
                log_to_driver=False,
            )
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise UnavailableError(
                "CLUSTER_UNREACHABLE",
                f"no Ray cluster answers at {address} ({str(error).splitlines()[0]}); start it, "
                "let this machine join it (`ray start`), or choose another arithmetic.backend",
            ) from error

    def open(self, span: Span) -> RaySlice:
        """Start an actor that holds a slice; nodes with CPUs take turns.

        Raises:
            SliceLostError: the cluster does not take it.
        """
        try:
            nodes = sorted(
                node["NodeID"]
                for node in ray.nodes()  # type: ignore[no-untyped-call]
                if node["Alive"] and node["Resources"].get("CPU")
            )
            if not nodes:
                raise SliceLostError("the cluster has no node with a CPU")
            return RaySlice(span, nodes[next(self._turn) % len(nodes)], self._silence_s)
        except RayError as error:
            raise _lost(error) from error

    def close(self) -> None:
        """Leave the cluster."""
        ray.shutdown()


def _lost(error: RayError) -> SliceLostError:
    return SliceLostError(f"{type(error).__name__}: {str(error)[:500]}")
