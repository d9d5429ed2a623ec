"""One client of a load run: the production protocol core over its own mTLS channel.

It is the tests' protocol client, made lean: nothing of a vector is kept once it is sent, what it
says is counted, and whatever goes wrong ends the run instead of being noted.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate
from finsecure.aggregation.v1 import participation_pb2
from finsecure_crypto.certificates import (
    Purpose,
    Role,
    SpiffeId,
    TrustAnchors,
    verify_certificate,
)
from finsecure_crypto.encoding import rounding_generator
from finsecure_crypto.errors import UnavailableError
from finsecure_crypto.federation import LocalMetrics, training_values
from finsecure_crypto.secagg.parameters import ClientPolicy, Profile
from finsecure_rpc.identity_store import Identity
from numpy.typing import NDArray

from tests.support.federation import (
    ADVERTISE,
    CHUNK,
    CONFIRM,
    FEDERATION,
    REVEAL,
    SHARE,
    SUBMIT,
    LeaveError,
    ProtocolClient,
    part,
)
from tests.support.pki import TestAuthority

POLICY = ClientPolicy(2, 2, Profile.SEMI_HONEST)
MIDWAY = "midway_through_upload"
MOMENTS = (SHARE, SUBMIT, MIDWAY, CONFIRM, REVEAL)
"""When a client can be killed: before its answer, or in the middle of its upload."""

_UPLOAD = "/finsecure.aggregation.v1.ParticipationService/SubmitInput"
_CALL_S = 60.0
_UPLOAD_S = 3600.0
_MOST_TRIES = 20


@dataclass(eq=False)
class FixedIdentity:
    """An identity that was never on a disk."""

    identity: Identity

    def current(self) -> Identity:
        """The identity."""
        return self.identity


def issue(pki: TestAuthority, anchors: TrustAnchors, name: str) -> FixedIdentity:
    """Issues a client's two certificates below `anchors`, which are the authority's."""
    made = pki.credentials(SpiffeId(f"{FEDERATION}.{pki.domain}", Role.CLIENT, name))
    now = datetime.now(UTC)
    chain = (made.tls_certificate, *anchors.intermediates)
    pem = [load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain]
    return FixedIdentity(
        Identity(
            certified=verify_certificate(made.tls_certificate, anchors, None, now, Purpose.TLS),
            signing=verify_certificate(
                made.signing_certificate, anchors, None, now, Purpose.SIGNING
            ),
            root_pem=pki.root.pem,
            tls_key_pem=made.tls_key_pem,
            tls_chain_pem=b"".join(pem),
            signing_key=made.signing_key,
            signing_certificate=made.signing_certificate,
            anchors=anchors,
            generation=1,
            member={},
        )
    )


@dataclass(eq=False)
class Shared:
    """What all clients of one driver process share.

    Attributes:
        pki: the authority that all certificates come from.
        anchors: its certificates.
        slots: bounds the vectors that are in memory.
        hold: set when uploads may start; until then the masked vectors are kept ready.
        counts: events so far, by name.
        total: sum of the plain words of all acknowledged inputs.
        accepted: ids of the clients whose input was acknowledged.
        public_keys: Ed25519 key by certificate; each certificate is verified once a process.
    """

    pki: TestAuthority
    anchors: TrustAnchors
    slots: asyncio.Semaphore
    hold: asyncio.Event
    counts: Counter[str] = field(default_factory=Counter)
    total: NDArray[np.uint64] | None = None
    accepted: list[str] = field(default_factory=list)
    public_keys: dict[bytes, bytes] = field(default_factory=dict)


def _messages(header: participation_pb2.InputHeader, content: memoryview) -> Iterator[bytes]:
    yield participation_pb2.SubmitInputRequest(header=header).SerializeToString()
    for offset in range(0, len(content), CHUNK):
        yield part(bytes(content[offset : offset + CHUNK]), offset).SerializeToString()


class LoadClient(ProtocolClient):
    """A client that takes part in one round.

    Args:
        name: its id.
        identity: its certificates and keys.
        address: of the aggregator.
        task: resource name.
        shared: with the other clients of the process.
        dies: one of `MOMENTS`, or None for a client that stays.
    """

    def __init__(
        self,
        name: str,
        identity: FixedIdentity,
        address: str,
        task: str,
        shared: Shared,
        dies: str | None,
    ) -> None:
        super().__init__(
            name,
            identity,  # type: ignore[arg-type]  # gives the newest identity, which is all it does
            address,
            (task,),
            shared.pki,
            examples=100 + random.Random(name).randrange(900),
            policy=POLICY,
        )
        self.sent = 0
        self.received = 0
        self._shared = shared
        self._dies = dies

    async def take_part(self) -> None:
        """Watches from now on, and answers until the round has ended or the client is killed."""
        try:
            while not self.outcomes:
                # A new stream is told again whatever is still to answer.
                with suppress(UnavailableError):
                    async for item in self.connection.stream(
                        self.stub.Watch,
                        participation_pb2.WatchRequest(tasks=self.tasks),
                        deadline_s=_UPLOAD_S,
                        wait_for_ready=True,
                    ):
                        self.received += item.ByteSize()
                        await self._answer_once(item)
                        if self.outcomes:
                            break
                await asyncio.sleep(0.1 * (not self.outcomes))
            self._shared.counts["outcome"] += 1
        except LeaveError:
            self._shared.counts["killed"] += 1
        finally:
            self._states.clear()
            await self.connection.close()

    async def _answer_once(self, item: participation_pb2.WatchResponse) -> None:
        kind = item.WhichOneof("instruction") or ""
        if kind == "outcome":
            self.outcomes.append(item.outcome)
            return
        if kind == self._dies:
            raise LeaveError
        if kind != ADVERTISE and item.round not in self._states:
            return
        if kind == SUBMIT:
            await self._submit(item)
        else:
            answer = getattr(self, f"_{kind}")(item)
            method = {
                ADVERTISE: self.stub.AdvertiseKeys,
                SHARE: self.stub.ShareKeys,
                CONFIRM: self.stub.ConfirmSurvivors,
                REVEAL: self.stub.RevealShares,
            }[kind]
            self.sent += answer.ByteSize()
            await self.call(method, answer)
        self._shared.counts[kind] += 1

    async def call(self, method: Any, request: Any, deadline_s: float = _CALL_S) -> Any:
        """Calls until the aggregator has answered; every message is idempotent."""
        for attempt in range(_MOST_TRIES):
            try:
                return await self.connection.call(
                    method, request, deadline_s=deadline_s, wait_for_ready=True
                )
            except UnavailableError as error:
                self._shared.counts["repeated"] += 1
                self._shared.counts[f"repeated {error.code}"] += 1
                await asyncio.sleep(random.uniform(0.1, 1.0) * min(2**attempt, 10))
        raise UnavailableError("LOAD_GIVES_UP", f"{self.name} was not answered")

    async def _submit(self, item: participation_pb2.WatchResponse) -> None:
        shared = self._shared
        async with shared.slots:
            plain, messages = await asyncio.to_thread(self._mask, item)
            shared.counts["masked"] += 1
            await shared.hold.wait()
            await self._upload_all(messages)
            shared.total = plain if shared.total is None else np.add(shared.total, plain)
            shared.accepted.append(self.name)

    def _mask(
        self, item: participation_pb2.WatchResponse
    ) -> tuple[NDArray[np.uint64], Iterable[bytes]]:
        """The plain words, and the upload's messages as they go onto the wire."""
        header, content = self._submit_input(item)
        messages = _messages(header, memoryview(content))
        # What is held is ready to be sent, so that the uploads alone are timed.
        held = messages if self._shared.hold.is_set() else list(messages)
        return self.plain.pop(item.round), held

    async def _upload_all(self, messages: Iterable[bytes]) -> None:
        async def parts() -> AsyncIterator[bytes]:
            for number, message in enumerate(messages):
                yield message
                self.sent += len(message)
                self._shared.counts["uploaded_bytes"] += len(message)
                if self._dies == MIDWAY and number == 1:
                    raise LeaveError

        upload: Any = self.connection.channel().stream_unary(
            _UPLOAD, None, participation_pb2.SubmitInputResponse.FromString
        )
        answer = await self.connection.call(
            upload, parts(), deadline_s=_UPLOAD_S, wait_for_ready=True
        )
        assert answer.accepted, f"the input of {self.name} was not accepted"

    def words(self, round_name: str) -> NDArray[np.uint64]:
        """The plain contribution: random values, weight, and metrics."""
        layout, _, terms = self._layouts[round_name]
        rng = np.random.default_rng()
        metrics = LocalMetrics(
            training_examples=self.examples,
            validation_examples=40,
            validation_correct=int(rng.integers(0, 41)),
            validation_loss=float(rng.uniform(0, 40)),
            scores=rng.integers(0, 9, 2 * terms.score_bins).astype(np.uint64),
        )
        update = rng.random(terms.coordinates) - 0.5
        encoded = layout.encode(training_values(terms, update, metrics), rounding_generator())
        assert encoded.flags.writeable
        return encoded

    def verify_peer(self, client: str, certificate: bytes) -> bytes:
        """Verifies a certificate the first time that any client of the process sees it."""
        known = self._shared.public_keys.get(certificate)
        if known is None:
            certified = verify_certificate(
                certificate,
                self._shared.anchors,
                self.pki.current(),
                datetime.now(UTC),
                Purpose.SIGNING,
            )
            assert certified.spiffe_id.id == client
            known = certified.public_key
            self._shared.public_keys[certificate] = known
        return known
