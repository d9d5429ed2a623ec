"""A federation for tests: a real aggregator process, a stand-in for the key service, and clients
that drive the protocol core themselves.

>>> async with Federation(tmp_path, banks=5) as federation:
...     await federation.create_task("credit", task_spec())
...     federation.start_clients("credit")
...     task = await federation.ended("credit")
"""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from finsecure.aggregation.v1 import (
    models_pb2,
    models_pb2_grpc,
    participation_pb2,
    participation_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)
from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure_crypto.attempt import Attempt
from finsecure_crypto.certificates import Purpose, Role, verify_certificate
from finsecure_crypto.encoding import rounding_generator
from finsecure_crypto.errors import FinSecureError, UnavailableError
from finsecure_crypto.federation import (
    Encryption,
    LocalMetrics,
    Masking,
    RoundKind,
    Tensor,
    Terms,
    encrypted_round_parameters,
    round_attempt,
    round_parameters,
    statistics_values,
    training_values,
)
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.rounds import sign_input
from finsecure_crypto.secagg import client as secagg
from finsecure_crypto.secagg import messages
from finsecure_crypto.secagg.membership import Identity
from finsecure_crypto.secagg.parameters import ClientPolicy, Profile, SparseGraph
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.connection import Connection
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.policy import Limits, domain_peers
from finsecure_rpc.server import Listener, RpcServer, build_server
from google.protobuf.duration_pb2 import Duration
from safetensors.numpy import load, save

from tests.support.pki import TestAuthority
from tests.support.published import FederationRegister, PublicLog

ROOT = Path(__file__).resolve().parents[2]
FEDERATION = "lending"
CHUNK = 1 << 20
ADVERTISE, SHARE, SUBMIT, CONFIRM, REVEAL = (
    "advertise_keys",
    "share_keys",
    "submit_input",
    "confirm_survivors",
    "reveal_shares",
)
ENCRYPT = "encrypt_input"
PHASES = (ADVERTISE, SHARE, SUBMIT, CONFIRM, REVEAL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def task_spec(
    *,
    minimum: int = 3,
    maximum: int = 5,
    rounds: int = 1,
    deadline_s: float = 60.0,
    deadlines: Mapping[str, float] | None = None,
    tensors: Mapping[str, tuple[int, ...]] | None = None,
    standardise: bool = False,
    score_bins: int = 8,
    profile: int = tasks_pb2.SECURITY_PROFILE_ACTIVE,
    optimizer: tasks_pb2.ServerOptimizerSpec | None = None,
    sparse: tuple[float, float] | None = None,
    interval_s: float = 0.0,
    convergence: tasks_pb2.ConvergenceSpec | None = None,
    weight_cap: int = 1000,
) -> tasks_pb2.TaskSpec:
    """A small valid task."""
    waits = dict.fromkeys(PHASES, deadline_s) | dict(deadlines or {})
    security = tasks_pb2.SecuritySpec(profile=profile)
    if sparse is not None:
        security.sparse_graph.corrupt_fraction, security.sparse_graph.dropout_fraction = sparse
    spec = tasks_pb2.TaskSpec(
        model=tasks_pb2.ModelSpec(
            factory="example:model",
            tensors=[
                tasks_pb2.TensorSpec(name=name, shape=shape)
                for name, shape in (tensors or {"weight": (3, 4), "bias": (4,)}).items()
            ],
        ),
        features=tasks_pb2.FeatureSchema(
            features=[
                tasks_pb2.Feature(
                    column="amount", numeric=tasks_pb2.NumericFeature(minimum=0, maximum=100)
                ),
                tasks_pb2.Feature(
                    column="income", numeric=tasks_pb2.NumericFeature(minimum=0, maximum=9)
                ),
                tasks_pb2.Feature(
                    column="grade", categorical=tasks_pb2.CategoricalFeature(values=["A", "B"])
                ),
            ],
            label="status",
            positive_value="default",
            standardise=standardise,
        ),
        training=tasks_pb2.TrainingSpec(
            epochs=1, batch_size=32, learning_rate=0.1, positive_weight=1
        ),
        rounds=rounds,
        cohort=tasks_pb2.CohortSpec(minimum=minimum, maximum=maximum, weight_cap=weight_cap),
        security=security,
        encoding=tasks_pb2.EncodingSpec(
            value_bits=16, clip_norm=10, clip_value=1, score_bins=score_bins
        ),
        server_optimizer=optimizer
        or tasks_pb2.ServerOptimizerSpec(kind=tasks_pb2.SERVER_OPTIMIZER_AVERAGE, learning_rate=1),
        deadlines=tasks_pb2.DeadlineSpec(
            **{
                phase: Duration(seconds=int(s), nanos=round(s % 1 * 1e9))
                for phase, s in waits.items()
            }
        ),
    )
    if interval_s:
        spec.interval.FromNanoseconds(round(interval_s * 1e9))
    if convergence is not None:
        spec.convergence.CopyFrom(convergence)
    return spec


def terms_of(spec: tasks_pb2.TaskSpec) -> Terms:
    """The terms of a spec, read independently of the services."""
    graph = None
    if spec.security.HasField("sparse_graph"):
        sparse = spec.security.sparse_graph
        graph = SparseGraph(sparse.corrupt_fraction, sparse.dropout_fraction)
    active = spec.security.profile == tasks_pb2.SECURITY_PROFILE_ACTIVE
    protection: Masking | Encryption = Masking(
        Profile.ACTIVE if active else Profile.SEMI_HONEST, graph
    )
    if spec.security.encryption_key:
        mode = Mode(tasks_pb2.Protection.Name(spec.security.protection)[11:].lower())
        protection = Encryption(mode, spec.security.encryption_key)
    return Terms(
        tensors=tuple(Tensor(t.name, tuple(t.shape)) for t in spec.model.tensors),
        numeric_features=sum(f.HasField("numeric") for f in spec.features.features),
        weight_cap=spec.cohort.weight_cap,
        value_bits=spec.encoding.value_bits,
        clip_norm=spec.encoding.clip_norm,
        clip_value=spec.encoding.clip_value,
        score_bins=spec.encoding.score_bins,
        minimum_cohort=spec.cohort.minimum,
        protection=protection,
    )


class RevocationFeed(certificates_pb2_grpc.CertificateServiceServicer):
    """The one RPC of the key service that an aggregator lives on."""

    def __init__(self, pki: TestAuthority) -> None:
        self._pki = pki
        self._changed = asyncio.Event()

    def publish(self) -> None:
        """Send the newest list to all watchers."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def WatchRevocationList(  # noqa: N802
        self, request: certificates_pb2.WatchRevocationListRequest, context: Any
    ) -> AsyncIterator[certificates_pb2.WatchRevocationListResponse]:
        while True:
            changed = self._changed
            yield certificates_pb2.WatchRevocationListResponse(crl=self._pki.current().der)
            await changed.wait()


def start_key_service(
    pki: TestAuthority,
    folder: Path,
    feed: RevocationFeed,
    others: Mapping[str, tuple[Any, Any]] | None = None,
) -> RpcServer:
    """Start a key service that has the feed, and other services by the method that they serve."""
    store = pki.enrol(folder, Role.KEYSERVICE, "main")
    method = "/finsecure.keyservice.v1.CertificateService/WatchRevocationList"
    others = others or {}
    return build_server(
        [
            (certificates_pb2_grpc.add_CertificateServiceServicer_to_server, feed),
            *dict.fromkeys(others.values()),
        ],
        {each: frozenset(Role) for each in (method, *others)},
        Authenticator(lambda: pki.anchors, pki, domain_peers(pki.domain)),
        [Listener("127.0.0.1:0", server_credentials(store))],
        Limits(deadlines={method: 86400.0}),
    )


Hook = Callable[["ProtocolClient", str, participation_pb2.WatchResponse], Awaitable[None]]


class LeaveError(Exception):
    """Raised by a hook: the client goes away, for good."""


@dataclass(eq=False)
class ProtocolClient:
    """A client of the wire contract without a trainer: its values come from a seeded generator.

    Attributes:
        name: client id.
        store: its identity.
        address: of the aggregator.
        tasks: it takes part in.
        examples: rows that it claims to train on.
        hook: awaited before each answer; may raise `LeaveError`.
        plain: encoded words by round name, before they were masked or encrypted.
        encrypt: turns encoded words, for a binding, into the pieces of an input.
    """

    name: str
    store: IdentityStore
    address: str
    tasks: tuple[str, ...]
    pki: TestAuthority
    examples: int
    hook: Hook | None = None
    policy: ClientPolicy = field(default_factory=ClientPolicy)
    plain: dict[str, Any] = field(default_factory=dict)
    outcomes: list[participation_pb2.RoundOutcome] = field(default_factory=list)
    errors: list[FinSecureError] = field(default_factory=list)
    updates: dict[str, Any] = field(default_factory=dict)
    encrypt: Callable[[Any, bytes], Iterable[bytes]] = lambda words, binding: [words.tobytes()]
    _states: dict[str, Any] = field(default_factory=dict)
    _layouts: dict[str, Any] = field(default_factory=dict)
    _answers: dict[tuple[str, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.connection = Connection(self.address, self.store, Role.AGGREGATOR)
        self.stub = self.connection.stub(participation_pb2_grpc.ParticipationServiceStub)

    async def run(self) -> None:
        """Take part until the hook raises `LeaveError` or the task is cancelled."""
        try:
            while True:
                with suppress(UnavailableError):
                    async for item in self.connection.stream(
                        self.stub.Watch,
                        participation_pb2.WatchRequest(tasks=self.tasks),
                        deadline_s=3600,
                        wait_for_ready=True,
                    ):
                        await self.handle(item)
                await asyncio.sleep(0.05)
        except LeaveError:
            pass
        finally:
            await self.connection.close()

    async def handle(self, item: participation_pb2.WatchResponse) -> None:
        """Answer one instruction; errors are kept, as a daemon would log them."""
        kind = item.WhichOneof("instruction")
        if kind == "outcome":
            self.outcomes.append(item.outcome)
            return
        if self.hook is not None:
            await self.hook(self, kind, item)
        try:
            await self.answer(kind, item)
        except UnavailableError:
            raise
        except FinSecureError as error:
            self.errors.append(error)

    async def answer(self, kind: str, item: participation_pb2.WatchResponse) -> None:
        """Make the answer to an instruction, once, and send it."""
        if kind not in (ADVERTISE, ENCRYPT) and item.round not in self._states:
            return  # a round that this process does not know
        key = (item.round, kind)
        if key not in self._answers:
            self._answers[key] = getattr(self, f"_{kind}")(item)
        answer = self._answers[key]
        if kind in (SUBMIT, ENCRYPT):
            await self.upload(*answer)
            return
        method = {
            ADVERTISE: self.stub.AdvertiseKeys,
            SHARE: self.stub.ShareKeys,
            CONFIRM: self.stub.ConfirmSurvivors,
            REVEAL: self.stub.RevealShares,
        }[kind]
        await self.call(method, answer)

    async def call(self, method: Any, request: Any) -> Any:
        return await self.connection.call(method, request, deadline_s=30, wait_for_ready=True)

    async def upload(
        self, header: participation_pb2.InputHeader, content: bytes, chunk: int = CHUNK
    ) -> participation_pb2.SubmitInputResponse:
        """Send what the server has not got yet."""
        status = await self.call(
            self.stub.GetUploadStatus, participation_pb2.GetUploadStatusRequest(round=header.round)
        )

        async def parts() -> AsyncIterator[participation_pb2.SubmitInputRequest]:
            yield participation_pb2.SubmitInputRequest(header=header)
            for offset in range(status.committed_bytes, len(content), chunk):
                yield part(content[offset : offset + chunk], offset)

        return await self.call(self.stub.SubmitInput, parts())

    # --- the protocol core, phase by phase ---

    def _advertise_keys(
        self, item: participation_pb2.WatchResponse
    ) -> participation_pb2.AdvertiseKeysRequest:
        terms, kind, tried = self._attempt(item.advertise_keys)
        assert isinstance(terms.protection, Masking)
        parameters = round_parameters(tried, terms.protection)
        identity = self.store.current()
        self._layouts[item.round] = (parameters.layout, kind, terms)
        self._states[item.round], said = secagg.advertise_keys(
            parameters,
            Identity(self.name, identity.signing_certificate, identity.signing_key),
            policy=self.policy,
        )
        return participation_pb2.AdvertiseKeysRequest(
            round=item.round,
            advertisement=participation_pb2.KeyAdvertisement(
                client=said.client,
                channel_key=said.channel_key,
                mask_key=said.mask_key,
                signature=said.signature,
                certificate=said.certificate,
            ),
        )

    def _attempt(
        self, invitation: participation_pb2.RoundInvitation
    ) -> tuple[Terms, RoundKind, Attempt]:
        spec = invitation.task.spec
        training = invitation.kind == tasks_pb2.ROUND_KIND_TRAINING
        kind = RoundKind.TRAINING if training else RoundKind.STATISTICS
        terms = terms_of(spec)
        tried = round_attempt(
            terms.at_least(invitation.minimum_cohort),
            task_name=invitation.task.name,
            spec=spec.SerializeToString(deterministic=True),
            kind=kind,
            number=invitation.number,
            attempt=invitation.attempt,
            attempt_nonce=invitation.attempt_nonce,
            model_digest=invitation.base_model.sha256,
            invited=invitation.invited,
        )
        return terms, kind, tried

    def _encrypt_input(
        self, item: participation_pb2.WatchResponse
    ) -> tuple[participation_pb2.InputHeader, bytes]:
        terms, kind, tried = self._attempt(item.encrypt_input.invitation)
        assert isinstance(terms.protection, Encryption)
        parameters = encrypted_round_parameters(
            tried, terms.protection, item.encrypt_input.encryption_key_digest
        )
        self._layouts[item.round] = (parameters.layout, kind, terms)
        words = self.words(item.round)
        self.plain[item.round] = words
        content = b"".join(self.encrypt(words, parameters.binding().input_binding(self.name)))
        identity = self.store.current()
        header = sign_input(
            parameters.binding(),
            len(content),
            hashlib.sha256(content).digest(),
            signing_key=identity.signing_key,
            certificate=identity.signing_certificate,
        )
        wire = participation_pb2.InputHeader(
            round=item.round,
            size_bytes=header.size_bytes,
            sha256=header.sha256,
            signature=header.signature,
            certificate=header.certificate,
        )
        return wire, content

    def _share_keys(
        self, item: participation_pb2.WatchResponse
    ) -> participation_pb2.ShareKeysRequest:
        roster = messages.Roster(
            item.share_keys.size,
            item.share_keys.root,
            item.share_keys.index,
            tuple(
                messages.RosterEntry(
                    e.index,
                    messages.KeyAdvertisement(
                        e.advertisement.client,
                        e.advertisement.channel_key,
                        e.advertisement.mask_key,
                        e.advertisement.signature,
                        e.advertisement.certificate,
                    ),
                    tuple(e.inclusion_proof),
                )
                for e in item.share_keys.entries
            ),
        )
        state, said = self._states[item.round].share_keys(roster, self.verify_peer)
        self._states[item.round] = state
        return participation_pb2.ShareKeysRequest(
            round=item.round,
            ciphertexts=said.ciphertexts,
            self_mask_commitment=said.self_mask_commitment,
            signature=said.signature,
        )

    def _submit_input(
        self, item: participation_pb2.WatchResponse
    ) -> tuple[participation_pb2.InputHeader, bytes]:
        delivery = messages.ShareDelivery(item.submit_input.sharers, item.submit_input.ciphertexts)
        words = self.words(item.round)
        self.plain[item.round] = words.copy()
        state, masked = self._states[item.round].mask_input(delivery, words)
        self._states[item.round] = state
        header = participation_pb2.InputHeader(
            round=item.round,
            size_bytes=masked.header.size_bytes,
            sha256=masked.header.sha256,
            signature=masked.header.signature,
        )
        return header, masked.words.astype("<u8").tobytes()

    def words(self, round_name: str) -> Any:
        """This client's encoded contribution, from a generator seeded with its name."""
        layout, kind, terms = self._layouts[round_name]
        seed = hashlib.sha256(f"{self.name} {round_name}".encode()).digest()
        rng = np.random.default_rng(list(seed))
        if kind is RoundKind.STATISTICS:
            values = statistics_values(terms, rng.random((self.examples, terms.numeric_features)))
        else:
            update = rng.normal(0, 0.1, terms.coordinates)
            self.updates[round_name] = update
            metrics = LocalMetrics(
                training_examples=self.examples,
                validation_examples=40,
                validation_correct=30,
                validation_loss=20.5,
                scores=rng.integers(0, 9, 2 * terms.score_bins).astype(np.uint64),
            )
            values = training_values(terms, update, metrics)
        return layout.encode(values, rounding_generator(lambda length: seed[:length]))

    def _confirm_survivors(
        self, item: participation_pb2.WatchResponse
    ) -> participation_pb2.ConfirmSurvivorsRequest:
        state, said = self._states[item.round].confirm_survivors(item.confirm_survivors.survivors)
        self._states[item.round] = state
        return participation_pb2.ConfirmSurvivorsRequest(round=item.round, signature=said.signature)

    def _reveal_shares(
        self, item: participation_pb2.WatchResponse
    ) -> participation_pb2.RevealSharesRequest:
        confirmations = messages.Confirmations(
            item.reveal_shares.signers, item.reveal_shares.signatures
        )
        state, said = self._states[item.round].reveal_shares(confirmations)
        self._states[item.round] = state
        return participation_pb2.RevealSharesRequest(
            round=item.round,
            self_mask_shares=said.self_mask_shares,
            mask_key_shares=said.mask_key_shares,
            unreadable=said.unreadable,
        )

    def verify_peer(self, client: str, certificate: bytes) -> bytes:
        certified = verify_certificate(
            certificate, self.pki.anchors, self.pki.current(), datetime.now(UTC), Purpose.SIGNING
        )
        assert str(certified.spiffe_id).endswith(f"/client/{client}")
        return certified.public_key


def part(content: bytes, offset: int) -> participation_pb2.SubmitInputRequest:
    return participation_pb2.SubmitInputRequest(
        chunk=models_pb2.Chunk(offset=offset, content=content, crc32=zlib.crc32(content))
    )


class Federation:
    """An aggregator process and its clients, in one folder.

    Args:
        folder: fresh; holds everything.
        banks: how many clients are enrolled, bank-0 and so on.
        settle_s, grace_s: of the aggregator's configuration. A full house starts at once; settle_s
            is long so that on a busy machine nobody is left out of the first round.
    """

    def __init__(
        self,
        folder: Path,
        *,
        banks: int = 5,
        settle_s: float = 5,
        grace_s: float = 0.5,
        database: str = "aggregator/aggregator.db",
    ) -> None:
        self.folder = folder
        self.banks = [f"bank-{number}" for number in range(banks)]
        self.pki = TestAuthority("finsecure.internal")
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.clients: dict[str, ProtocolClient] = {}
        self.running: dict[str, asyncio.Task[None]] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "aggregator.log"
        self.extra_config = ""
        self.log_of_events = PublicLog()
        self.minima = FederationRegister(self.log_of_events)
        self.extra_services: dict[str, tuple[Any, Any]] = {**self.minima.services()}
        self._database = database
        self._settle_s = settle_s
        self._grace_s = grace_s
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Federation":
        self.feed = RevocationFeed(self.pki)
        self.key_service = start_key_service(
            self.pki, self.folder / "keyservice", self.feed, self.extra_services
        )
        await self.key_service.start()
        self.pki.enrol(self.folder / "aggregator" / "identity", Role.AGGREGATOR, "main")
        operator = self.pki.enrol(self.folder / "operator", Role.OPERATOR, "alice")
        (self.folder / "root.pem").write_bytes(self.pki.root.pem)
        self.config = self.folder / "aggregator.toml"
        self.config.write_text(
            f'federation = "{FEDERATION}"\n'
            'identity_dir = "aggregator/identity"\n'
            'root = "root.pem"\n'
            f'keyservice = "127.0.0.1:{self.key_service.ports[0]}"\n'
            f'keyservice_enrol = "127.0.0.1:{self.key_service.ports[0]}"\n'
            f'listen = "{self.address}"\n'
            f'database = "{self._database}"\n'
            'blob_dir = "aggregator/blobs"\n'
            f"settle_s = {self._settle_s}\n"
            f"reconnect_grace_s = {self._grace_s}\n"
            f"shutdown_grace_s = 0\n{self.extra_config}"
        )
        # Operators belong to the domain, so the aggregator's name does not follow from theirs.
        self.operator = Connection(self.address, operator, Role.AGGREGATOR, federation=FEDERATION)
        self.tasks = self.operator.stub(tasks_pb2_grpc.TaskServiceStub)
        self.rounds = self.operator.stub(tasks_pb2_grpc.RoundServiceStub)
        self.models = self.operator.stub(models_pb2_grpc.ModelServiceStub)
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.running.values():
            task.cancel()
        await asyncio.gather(*self.running.values(), return_exceptions=True)
        await self.operator.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait, 20)
        await self.key_service.stop(0)

    # --- the aggregator process ---

    def start(self, crash_at: str | None = None) -> None:
        """Start the aggregator; `crash_at` is a point of `tests.support.crashing_aggregator`."""
        module = "tests.support.crashing_aggregator" if crash_at else "finsecure_aggregator"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "run", "--config", str(self.config)],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "CRASH_AT": crash_at or ""},
                stderr=log,
            )

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    async def died(self, timeout_s: float = 40) -> None:
        """Wait until the process has killed itself at its crash point."""
        assert self.process is not None
        code = await asyncio.to_thread(self.process.wait, timeout_s)
        assert code == -signal.SIGKILL, self.log.read_text()[-3000:]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The aggregator's log lines of an event; what libraries print is no JSON."""
        lines = []
        for line in self.log.read_text().splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
        return [line for line in lines if isinstance(line, dict) and line.get("event") == event]

    # --- what an operator does ---

    async def call(self, method: Any, request: Any) -> Any:
        try:
            return await self.operator.call(method, request, deadline_s=30, wait_for_ready=True)
        except UnavailableError:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            raise

    async def create_task(self, name: str, spec: tasks_pb2.TaskSpec) -> tasks_pb2.Task:
        """Create a task and upload an initial model of small random numbers."""
        created = await self.call(
            self.tasks.CreateTask,
            tasks_pb2.CreateTaskRequest(
                task=tasks_pb2.Task(name=task_name(name), spec=spec), request_id=str(uuid4())
            ),
        )
        await self.upload_model(name, initial_model(spec))
        return created.task

    async def upload_model(self, name: str, content: bytes) -> models_pb2.Model:
        async def parts() -> AsyncIterator[models_pb2.UploadInitialModelRequest]:
            yield models_pb2.UploadInitialModelRequest(
                upload=models_pb2.ModelUpload(
                    task=task_name(name),
                    size_bytes=len(content),
                    sha256=hashlib.sha256(content).digest(),
                )
            )
            for offset in range(0, len(content), CHUNK):
                piece = content[offset : offset + CHUNK]
                yield models_pb2.UploadInitialModelRequest(
                    chunk=models_pb2.Chunk(offset=offset, content=piece, crc32=zlib.crc32(piece))
                )

        return (await self.call(self.models.UploadInitialModel, parts())).model

    async def task(self, name: str) -> tasks_pb2.Task:
        response = await self.call(
            self.tasks.GetTask, tasks_pb2.GetTaskRequest(name=task_name(name))
        )
        return response.task

    async def history(self, name: str) -> list[tasks_pb2.Round]:
        """All rounds of a task, oldest first."""
        response = await self.call(
            self.rounds.ListRounds, tasks_pb2.ListRoundsRequest(parent=task_name(name))
        )
        return list(response.rounds)

    async def ended(self, name: str, timeout_s: float = 60) -> tasks_pb2.Task:
        """Wait until a task has ended."""
        async with asyncio.timeout(timeout_s):
            while True:
                with suppress(UnavailableError):
                    async for update in self.operator.stream(
                        self.tasks.WatchTask,
                        tasks_pb2.WatchTaskRequest(name=task_name(name)),
                        deadline_s=3600,
                        wait_for_ready=True,
                    ):
                        task = update.task
                        for client in self.running.values():
                            if client.done() and client.exception():
                                raise client.exception()
                        if task.state > tasks_pb2.TASK_STATE_RUNNING and not task.current_round:
                            return task
                await asyncio.sleep(0.1)

    async def download(self, name: str, version: int | str, offset: int = 0) -> bytes:
        content = b""
        async for response in self.operator.stream(
            self.models.DownloadModel,
            models_pb2.DownloadModelRequest(
                name=f"{task_name(name)}/models/{version}", offset=offset
            ),
            deadline_s=60,
        ):
            chunk = response.chunk
            assert chunk.offset == offset + len(content)
            assert chunk.crc32 == zlib.crc32(chunk.content)
            content += chunk.content
        return content

    async def tensors(self, name: str, version: int | str) -> dict[str, Any]:
        return load(await self.download(name, version))

    # --- clients ---

    def client(self, bank: str, task: str, hook: Hook | None = None) -> ProtocolClient:
        """Make a client that is not running yet."""
        store = self.pki.enrol(self.folder / bank, Role.CLIENT, bank)
        made = ProtocolClient(
            bank,
            store,
            self.address,
            (task_name(task),),
            self.pki,
            examples=100 * (1 + self.banks.index(bank)),
            hook=hook,
        )
        self.clients[bank] = made
        return made

    def start_clients(
        self,
        task: str,
        hooks: Mapping[str, Hook] | None = None,
        policy: ClientPolicy | None = None,
    ) -> None:
        """Start all banks' clients, some with hooks."""
        for bank in self.banks:
            made = self.client(bank, task, (hooks or {}).get(bank))
            made.policy = policy or made.policy
            self.running[bank] = asyncio.create_task(made.run(), name=bank)


def task_name(name: str) -> str:
    return f"federations/{FEDERATION}/tasks/{name}"


def initial_model(spec: tasks_pb2.TaskSpec) -> bytes:
    rng = np.random.default_rng(7)
    return save(
        {
            tensor.name: rng.normal(0, 0.1, tuple(tensor.shape)).astype(np.float32)
            for tensor in spec.model.tensors
        }
    )


def leave_before(phase: str) -> Hook:
    """A hook: the client goes away for good when the phase's instruction comes."""

    async def hook(client: ProtocolClient, kind: str, item: Any) -> None:
        if kind == phase:
            raise LeaveError

    return hook
