"""What the services of rounds and models work with, and what they show of it."""

from dataclasses import dataclass

from finsecure.aggregation.v1 import models_pb2, tasks_pb2
from finsecure_rpc.federation_minima import Minima

from finsecure_aggregator.clock import Clock
from finsecure_aggregator.encryption import EncryptionDesk
from finsecure_aggregator.gathering import Need
from finsecure_aggregator.initial_models import InitialModels
from finsecure_aggregator.models import ModelKeeper
from finsecure_aggregator.names import Names
from finsecure_aggregator.participation import Participation
from finsecure_aggregator.rechecks import Rechecks
from finsecure_aggregator.records import ModelRecord, TaskRecord, TaskState
from finsecure_aggregator.scheduler import Scheduler
from finsecure_aggregator.store import Store
from finsecure_aggregator.sums.desk import AuditedSums
from finsecure_aggregator.watchers import Changes, Presence
from finsecure_aggregator.wire.models import model_to_wire
from finsecure_aggregator.wire.tasks import task_to_wire


@dataclass(frozen=True)
class Desk:
    """What the services work with.

    Attributes:
        names: of the one federation that is served.
        store: durable state.
        models: model versions.
        rechecks: reads stored versions again.
        scheduler: runs the tasks.
        participation: the clients' side of rounds.
        initial_models: receives initial models.
        presence: who is connected.
        changes: wakes watchers.
        clock: time.
        encryption: keys that tasks may name.
        minima: what the federation demands of cohorts.
        sums: audited sums.
    """

    names: Names
    store: Store
    models: ModelKeeper
    rechecks: Rechecks
    scheduler: Scheduler
    participation: Participation
    initial_models: InitialModels
    presence: Presence
    changes: Changes
    clock: Clock
    encryption: EncryptionDesk
    minima: Minima
    sums: AuditedSums

    def model(self, record: ModelRecord) -> models_pb2.Model:
        """Make the wire's form of a model version as it stands."""
        return model_to_wire(self.models.refreshed(record), self.models.quarantined(record))

    def task(self, record: TaskRecord) -> tasks_pb2.Task:
        """Make the wire's form of a task as it stands."""
        proto = task_to_wire(record, self.presence.count(record.name))
        if record.state is TaskState.AWAITING_MODEL:
            proto.state_detail = "waits for its initial model; upload it"
        elif record.state is TaskState.RUNNING and record.current is None:
            waits = self._waits_for(record.name, proto)
            proto.state_detail = "; ".join(text for text in (record.detail, waits) if text)
        return proto

    def _waits_for(self, task: str, proto: tasks_pb2.Task) -> str:
        """What keeps the next round of a task from starting, apart from its time."""
        own, available = proto.spec.cohort.minimum, proto.available_clients
        need = self.scheduler.need(task) or Need(own)
        if need.obstacle or available >= need.clients:
            return need.obstacle
        whose = " by the federation's minimum cohort" if need.clients > own else ""
        return f"waits for clients: {available} of {need.clients}{whose} are connected"
