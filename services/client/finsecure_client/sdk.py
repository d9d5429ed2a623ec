"""The SDK: connect as a member of a federation, take part in rounds and in audited sums."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.errors import ConfigurationError, StateError
from finsecure_crypto.secagg.membership import Identity
from finsecure_rpc import enrolment
from finsecure_rpc.admission import Admission
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.encryption_keys import download_published
from finsecure_rpc.enrolled_service import kept_current
from finsecure_rpc.federation_minima import CLIENT_AGE_S, FederationMinima, Minima
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.log_memory import LogMemory
from finsecure_rpc.log_watch import LogWatch
from finsecure_rpc.model_statements import ModelKeys

from finsecure_client import config as configuration
from finsecure_client.config import ClientConfig
from finsecure_client.egress import Manifest
from finsecure_client.encryption_keys import EncryptionKeys, KeyRegister
from finsecure_client.instructions import Outcome
from finsecure_client.ledger import Ledger
from finsecure_client.models import ModelCache
from finsecure_client.participation import OnOutcome, Participation
from finsecure_client.party import Party
from finsecure_client.prepared import PreparedTrainer
from finsecure_client.sums.book import Book
from finsecure_client.sums.member import AuditedSums
from finsecure_client.sums.transport import SumService
from finsecure_client.terms import TaskStatus
from finsecure_client.trainer import Evaluation, GlobalModel, TrainedModel, Trainer
from finsecure_client.transport import Aggregator
from finsecure_client.trust import Trust


async def enrol(config: ClientConfig | Path, admission: Admission) -> SpiffeId:
    """Spend an API key or a use of a join token: make keys here, get certificates for them.

    The identity folder is written with both.

    Raises:
        ConflictError: IDENTITY_EXISTS.
        ConfigurationError: ROOT_MISSING, ROOT_INVALID, FEDERATION_MISMATCH.
        FinSecureError: what the key service answers, or that it cannot be reached.
    """
    config = _read(config)
    root_pem = enrolment.read_root(config.client.root)
    manifest = _manifest(config)
    try:
        identity = await enrolment.enrol(
            config.client.keyservice_enrol,
            root_pem,
            admission,
            config.client.identity_dir,
            on_send=manifest.recorder("keyservice"),
        )
    finally:
        manifest.close()
    _check_identity(config, identity.spiffe_id)
    return identity.spiffe_id


@asynccontextmanager
async def connect(config: ClientConfig | Path, *, patient: bool = False) -> AsyncIterator["Client"]:
    """Connect as the enrolled member; certificates renew themselves while the context lasts.

    Args:
        config: a configuration or the path of its file.
        patient: do not fail when the key service cannot be reached; nobody is believed until
            it can.

    Raises:
        ConfigurationError: CONFIG_MISSING, CONFIG_INVALID, IDENTITY_MISSING, FEDERATION_MISMATCH,
            LEDGER_INVALID.
        AuthenticationError: CERTIFICATE_EXPIRED, where the member has to enrol anew.
        UnavailableError: SERVICE_UNREACHABLE.
    """
    config = _read(config)
    settings = config.client
    store = IdentityStore(settings.identity_dir)
    identity = store.current()
    _check_identity(config, identity.spiffe_id)
    identity.certified.check(None, datetime.now(UTC))
    async with AsyncExitStack() as stack:
        manifest = _manifest(config)
        stack.callback(manifest.close)
        keyservice = await stack.enter_async_context(
            Connection(
                settings.keyservice,
                store,
                Role.KEYSERVICE,
                on_send=manifest.recorder("keyservice"),
            )
        )
        aggregator = await stack.enter_async_context(
            Connection(
                settings.aggregator,
                store,
                Role.AGGREGATOR,
                on_send=manifest.recorder("aggregator"),
            )
        )
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        revocations = await stack.enter_async_context(
            kept_current(keyservice, store, settings.state_dir, patient=patient)
        )
        trust = Trust(
            trust_domain=identity.spiffe_id.trust_domain,
            anchors=lambda: store.current().anchors,
            revocations=revocations.current,
        )
        follower = LogFollower(keyservice, LogMemory(settings.state_dir / "audit.json"))
        audit = await stack.enter_async_context(LogWatch(follower))
        minima = FederationMinima(
            keyservice,
            follower,
            f"federations/{settings.federation}",
            settings.state_dir / "minima.json",
            CLIENT_AGE_S,
        )
        model_keys = None
        if config.policy.model_key is not None:
            model_keys = ModelKeys(keyservice.channel, config.policy.model_key)
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trainer")
        stack.callback(worker.shutdown, wait=False, cancel_futures=True)
        keys = KeyRegister(
            partial(download_published, keyservice, follower), trust, config.make_policy()
        )
        sums = AuditedSums(
            SumService(aggregator),
            config.make_sum_policy(),
            keys,
            Book(settings.state_dir / "sums"),
            minima,
            lambda: _secagg_identity(store),
        )
        yield Client(
            config=config,
            id=identity.spiffe_id.id,
            aggregator=Aggregator(aggregator),
            trust=trust,
            keys=keys,
            minima=minima,
            models=ModelCache(settings.state_dir / "models", trust, model_keys),
            ledger=Ledger(settings.state_dir / "ledger.json"),
            identity=lambda: _secagg_identity(store),
            audit=audit,
            worker=worker,
            sums=sums,
        )


@dataclass(frozen=True)
class Client:
    """A connected member of a federation; made by `connect`."""

    config: ClientConfig
    id: str
    aggregator: Aggregator
    trust: Trust
    keys: EncryptionKeys
    minima: Minima
    models: ModelCache
    ledger: Ledger
    identity: Callable[[], Identity]
    audit: LogWatch
    worker: ThreadPoolExecutor
    sums: AuditedSums

    async def tasks(self) -> list[TaskStatus]:
        """Read all tasks of the federation."""
        return await self.aggregator.list_tasks(self.config.client.federation)

    async def task(self, task: str) -> TaskStatus:
        """Read one task, by id or resource name."""
        return await self.aggregator.get_task(self._task_name(task))

    async def model(self, task: str, version: int | None = None) -> GlobalModel:
        """Download and verify a version of a task's global model; the newest by default.

        Raises:
            IntegrityError, AuthenticationError: where it is not what the aggregator signed.
            NotFoundError: where there is none.
        """
        name = self._task_name(task)
        suffix = "latest" if version is None else str(version)
        signed = await self.aggregator.get_model(f"{name}/models/{suffix}")
        status = await self.aggregator.get_task(name)
        return await self.models.fetch(signed, status.task, self.aggregator)

    async def join(
        self,
        task: str,
        trainer: Trainer,
        *,
        on_outcome: OnOutcome = lambda name, outcome: None,
    ) -> TaskStatus:
        """Take part in a task's rounds until the task ends.

        Args:
            task: id or resource name; the configured policy must allow it.
            trainer: trains and evaluates; its methods run on a worker thread.
            on_outcome: called with the name and outcome of each round.

        Returns:
            The task as it ended.

        Raises:
            PolicyError: where the policy does not allow the task.
            FinSecureError: what the trainer's `prepare` raises.
        """
        status = await self.task(task)
        self.config.make_policy().check_task(status.task)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self.worker, trainer.prepare, status.task)

        async def wanted() -> Sequence[str]:
            nonlocal status
            status = await self.task(task)
            return [status.task.name] if status.open else []

        await self.participation(trainer, on_outcome).run(wanted, until_none=True)
        return status

    async def submit(
        self, task: str, base: GlobalModel, trained: TrainedModel, evaluation: Evaluation
    ) -> Outcome:
        """Submit a result that was computed elsewhere, in the next round from the same model.

        Args:
            task: id or resource name.
            base: the model that was trained from and evaluated, as `model` returned it.
            trained: the trained model.
            evaluation: of `base` on the validation examples.

        Returns:
            How the round ended in which it was submitted.

        Raises:
            StateError: MODEL_SUPERSEDED, where a newer version is out or the task has ended.
        """
        name = self._task_name(task)
        outcomes: list[Outcome] = []
        trainer = PreparedTrainer(base, trained, evaluation)

        async def wanted() -> Sequence[str]:
            if any(outcome.completed for outcome in outcomes):
                return []
            status = await self.aggregator.get_task(name)
            if not status.latest_model.endswith(f"/models/{base.version}") or not status.open:
                return []
            return [name]

        await self.participation(
            trainer, lambda _, outcome: outcomes.append(outcome) if trainer.used else None
        ).run(wanted, until_none=True)
        if not outcomes:
            raise StateError(
                "MODEL_SUPERSEDED",
                f"model version {base.version} of {name} is not the newest any more, or the task "
                "has ended; train from the newest version",
            )
        return outcomes[-1]

    def participation(
        self, trainer: Trainer, on_outcome: OnOutcome = lambda name, outcome: None
    ) -> Participation:
        """Prepare to take part with a trainer, under the configured policy."""
        return Participation(
            self.aggregator,
            Party(
                service=self.aggregator,
                identity=self.identity,
                trust=self.trust,
                keys=self.keys,
                policy=self.config.make_policy(),
                minima=self.minima,
                ledger=self.ledger,
                models=self.models,
                trainer=trainer,
                worker=self.worker,
            ),
            poll_interval_s=self.config.client.poll_interval_s,
            on_outcome=on_outcome,
        )

    def _task_name(self, task: str) -> str:
        if "/" in task:
            return task
        return f"federations/{self.config.client.federation}/tasks/{task}"


def _read(config: ClientConfig | Path) -> ClientConfig:
    return configuration.read(config) if isinstance(config, Path) else config


def _manifest(config: ClientConfig) -> Manifest:
    return Manifest(config.egress.manifest, rotate_bytes=config.egress.rotate_mib << 20)


def _secagg_identity(store: IdentityStore) -> Identity:
    identity = store.current()
    return Identity(identity.spiffe_id.id, identity.signing_certificate, identity.signing_key)


def _check_identity(config: ClientConfig, found: SpiffeId) -> None:
    federation = found.trust_domain.partition(".")[0]
    if found.role is not Role.CLIENT or federation != config.client.federation:
        raise ConfigurationError(
            "FEDERATION_MISMATCH",
            f"the identity in {config.client.identity_dir} is {found}, no client of federation "
            f"{config.client.federation}; correct federation or identity_dir in [client]",
        )
