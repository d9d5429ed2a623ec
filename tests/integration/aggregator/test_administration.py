"""Tasks, rounds and models over the wire: what operators and members do, and may not do."""

import hashlib
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest
from finsecure.aggregation.v1 import (
    models_pb2,
    participation_pb2,
    participation_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)
from finsecure_crypto.certificates import Purpose, Role, verify_certificate
from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.federation import STANDARDISE_MEAN, STANDARDISE_SCALE
from finsecure_crypto.model_version import ModelVersion
from finsecure_rpc.connection import Connection
from safetensors.numpy import save

from tests.support.federation import (
    ADVERTISE,
    FEDERATION,
    SUBMIT,
    Federation,
    initial_model,
    task_name,
    task_spec,
)
from tests.support.rounds import check_average_round, expected_result


@asynccontextmanager
async def refused(code):
    with pytest.raises(FinSecureError) as failure:
        yield
    assert failure.value.code == code, failure.value


def create(name, spec, request_id=None, federation=FEDERATION):
    return tasks_pb2.CreateTaskRequest(
        task=tasks_pb2.Task(name=f"federations/{federation}/tasks/{name}", spec=spec),
        request_id=request_id or str(uuid4()),
    )


async def test_tasks_are_created_once_listed_in_pages_and_cancelled(tmp_path):
    async with Federation(tmp_path, banks=1) as federation:
        call, tasks, spec = federation.call, federation.tasks, task_spec()
        first = create("a-task", spec)
        made = (await call(tasks.CreateTask, first)).task
        assert made.state == tasks_pb2.TASK_STATE_AWAITING_MODEL
        assert "upload" in made.state_detail
        assert (await call(tasks.CreateTask, first)).task == made
        async with refused("REQUEST_ID_CONFLICT"):
            await call(tasks.CreateTask, create("b-task", spec, first.request_id))
        async with refused("TASK_EXISTS"):
            await call(tasks.CreateTask, create("a-task", spec))
        async with refused("FEDERATION_NOT_FOUND"):
            await call(tasks.CreateTask, create("a-task", spec, federation="other"))
        async with refused("COHORT_RANGE"):
            await call(tasks.CreateTask, create("c-task", task_spec(minimum=5, maximum=3)))
        async with refused("INVALID_MESSAGE"):
            await call(tasks.CreateTask, create("C task", spec))
        async with refused("TASK_NOT_FOUND"):
            await call(tasks.GetTask, tasks_pb2.GetTaskRequest(name=task_name("none")))
        async with refused("NAME_MALFORMED"):
            await call(tasks.GetTask, tasks_pb2.GetTaskRequest(name="tasks/../x"))
        for name in ("b-task", "c-task", "d-task", "e-task"):
            await call(tasks.CreateTask, create(name, spec))
        names, token = [], ""
        while True:
            page = await call(
                tasks.ListTasks,
                tasks_pb2.ListTasksRequest(
                    parent=f"federations/{FEDERATION}", page_size=2, page_token=token
                ),
            )
            names += [task.name.rsplit("/", 1)[1] for task in page.tasks]
            token = page.next_page_token
            if not token:
                break
        assert names == ["a-task", "b-task", "c-task", "d-task", "e-task"]
        async with refused("PAGE_TOKEN_INVALID"):
            await call(
                tasks.ListTasks,
                tasks_pb2.ListTasksRequest(parent=f"federations/{FEDERATION}", page_token="x"),
            )
        cancel = tasks_pb2.CancelTaskRequest(name=task_name("a-task"), request_id=str(uuid4()))
        cancelled = (await call(tasks.CancelTask, cancel)).task
        assert cancelled.state == tasks_pb2.TASK_STATE_CANCELLED
        assert cancelled.state_detail == "cancelled by alice"
        assert (await call(tasks.CancelTask, cancel)).task == cancelled
        async with refused("TASK_ENDED"):
            await federation.upload_model("a-task", initial_model(spec))
        assert (await federation.ended("a-task")).state == tasks_pb2.TASK_STATE_CANCELLED


async def test_the_log_names_who_asked_for_each_change_and_who_was_refused(tmp_path):
    async with Federation(tmp_path, banks=1) as federation:
        call, task = federation.call, task_name("credit")
        await federation.create_task("credit", task_spec())
        model = models_pb2.RecheckModelRequest(name=f"{task}/models/0")
        await call(federation.models.RecheckModel, model)
        cancel = tasks_pb2.CancelTaskRequest(name=task, request_id=str(uuid4()))
        await call(federation.tasks.CancelTask, cancel)
        async with refused("MODEL_EXISTS"):
            await federation.upload_model("credit", b"another model")
        alice = str(federation.pki.spiffe_id(Role.OPERATOR, "alice"))
        asked = federation.logged("change asked for")
        assert [(line["method"], line["subject"]) for line in asked] == [
            ("CreateTask", task),
            ("UploadInitialModel", task),
            ("RecheckModel", f"{task}/models/0"),
            ("CancelTask", task),
            ("UploadInitialModel", task),
        ]
        assert {line["caller"] for line in asked} == {alice}
        (line,) = federation.logged("call refused")
        assert (line["code"], line["caller"]) == ("MODEL_EXISTS", alice)


async def test_an_initial_model_is_checked_against_its_task(tmp_path):
    async with Federation(tmp_path, banks=1) as federation:
        spec = task_spec()
        await federation.call(federation.tasks.CreateTask, create("credit", spec))
        good = {"weight": np.ones((3, 4), np.float32), "bias": np.ones(4, np.float32)}
        bad = {
            "MODEL_TENSORS_MISMATCH": {"weight": good["weight"]},
            "MODEL_SHAPE_MISMATCH": good | {"bias": np.ones(5, np.float32)},
            "MODEL_DTYPE_MISMATCH": good | {"bias": np.ones(4, np.float64)},
            "VALUE_NOT_FINITE": good | {"bias": np.full(4, np.nan, np.float32)},
        }
        for code, tensors in bad.items():
            async with refused(code):
                await federation.upload_model("credit", save(tensors))
        async with refused("MODEL_MALFORMED"):
            await federation.upload_model("credit", b"no model")
        async with refused("MODEL_TOO_LARGE"):
            await federation.upload_model("credit", bytes(100_000))
        content = save(good)

        async def half():
            yield models_pb2.UploadInitialModelRequest(
                upload=models_pb2.ModelUpload(
                    task=task_name("credit"),
                    size_bytes=len(content),
                    sha256=hashlib.sha256(content).digest(),
                )
            )

        async with refused("UPLOAD_TRUNCATED"):
            await federation.call(federation.models.UploadInitialModel, half())
        async with refused("MODEL_NOT_FOUND"):
            await federation.download("credit", "latest")
        model = await federation.upload_model("credit", content)
        assert await federation.upload_model("credit", content) == model
        async with refused("MODEL_EXISTS"):
            await federation.upload_model("credit", save(good | {"bias": good["bias"] * 2}))
        assert await federation.download("credit", "latest") == content
        assert await federation.download("credit", 0, offset=10) == content[10:]
        assert await federation.download("credit", 0, offset=len(content)) == b""
        async with refused("OFFSET_BEYOND_END"):
            await federation.download("credit", 0, offset=len(content) + 1)
        assert not list((tmp_path / "aggregator" / "blobs" / "incoming").iterdir())
        verify(federation, model)


def verify(federation, model):
    """What a client does at every load."""
    certified = verify_certificate(
        model.signer_certificate,
        federation.pki.anchors,
        federation.pki.current(),
        datetime.now(UTC),
        Purpose.SIGNING,
    )
    assert str(certified.spiffe_id) == "spiffe://lending.finsecure.internal/aggregator/main"
    ModelVersion(
        name=model.name,
        version=model.version,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        parent_sha256=model.parent_sha256,
        round=model.round,
        create_time_ns=model.create_time.ToNanoseconds(),
    ).verify(certified.public_key, model.signature)


async def test_a_model_is_signed_anew_under_a_renewed_certificate(tmp_path):
    async with Federation(tmp_path, banks=1) as federation:
        await federation.create_task("credit", task_spec())
        get = models_pb2.GetModelRequest(name=f"{task_name('credit')}/models/latest")
        before = (await federation.call(federation.models.GetModel, get)).model
        federation.pki.enrol(tmp_path / "aggregator" / "identity", Role.AGGREGATOR, "main")
        after = (await federation.call(federation.models.GetModel, get)).model
        assert before.signer_certificate != after.signer_certificate
        verify(federation, before)
        verify(federation, after)


async def test_roles_and_identities_are_kept_apart(tmp_path):
    async with Federation(tmp_path, banks=3) as federation:
        spec = task_spec(minimum=3, maximum=3)
        await federation.create_task("credit", spec)
        stopped = []

        async def hook(client, kind, item):
            if kind == ADVERTISE and not stopped:
                stopped.append(kind)
                other = client._advertise_keys(item)
                other.advertisement.client = "bank-1"
                async with refused("CLIENT_MISMATCH"):
                    await client.call(client.stub.AdvertiseKeys, other)
                forged = client._advertise_keys(item)
                forged.advertisement.mask_key = bytes([9]) + bytes(31)
                async with refused("ADVERTISEMENT_SIGNATURE"):
                    await client.call(client.stub.AdvertiseKeys, forged)

        federation.start_clients("credit", {"bank-0": hook})
        bank = federation.clients["bank-0"]
        tasks = bank.connection.stub(tasks_pb2_grpc.TaskServiceStub)
        async with refused("ROLE_NOT_ALLOWED"):
            await bank.call(tasks.CreateTask, create("other", spec))
        stub = federation.operator.stub(participation_pb2_grpc.ParticipationServiceStub)
        async with refused("ROLE_NOT_ALLOWED"):
            await federation.call(
                stub.DeclineRound,
                participation_pb2.DeclineRoundRequest(
                    round=f"{task_name('credit')}/rounds/1-1", reason="NOT_ME"
                ),
            )
        stranger = federation.pki.enrol(tmp_path / "s", Role.CLIENT, "bank-0", federation="other")
        async with (
            Connection(
                federation.address, stranger, Role.AGGREGATOR, federation=FEDERATION
            ) as outside,
            refused("TRUST_DOMAIN_REFUSED"),
        ):
            await outside.call(
                outside.stub(tasks_pb2_grpc.TaskServiceStub).GetTask,
                tasks_pb2.GetTaskRequest(name=task_name("credit")),
            )
        assert (await federation.ended("credit")).state == tasks_pb2.TASK_STATE_COMPLETED
        assert stopped


async def test_a_client_that_declines_is_not_waited_for(tmp_path):
    async def decline(client, kind, item):
        if kind == ADVERTISE:
            request = participation_pb2.DeclineRoundRequest(
                round=item.round, reason="COHORT_BELOW_POLICY"
            )
            await client.call(client.stub.DeclineRound, request)
            await client.call(client.stub.DeclineRound, request)
            async with refused("ROUND_DECLINED"):
                await client.call(client.stub.AdvertiseKeys, client._advertise_keys(item))

    async with Federation(tmp_path, grace_s=600) as federation:
        spec = task_spec(deadline_s=600)  # nobody may wait for the deadline
        await federation.create_task("credit", spec)
        federation.start_clients("credit", {"bank-4": decline})
        await federation.ended("credit")
        await check_average_round(federation, "credit", spec, set(federation.banks) - {"bank-4"})


async def test_a_round_without_enough_clients_is_repeated_and_then_given_up(tmp_path):
    async def decline(client, kind, item):
        if kind == ADVERTISE:
            await client.call(
                client.stub.DeclineRound,
                participation_pb2.DeclineRoundRequest(round=item.round, reason="NO_DATA"),
            )

    async with Federation(tmp_path, banks=3) as federation:
        await federation.create_task("credit", task_spec(minimum=3, maximum=3))
        federation.start_clients("credit", {"bank-0": decline})
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_FAILED
        assert "COHORT_TOO_SMALL" in task.state_detail
        rounds = await federation.history("credit")
        assert [r.attempt for r in rounds] == [1, 2, 3, 4, 5]
        assert {r.abort_reason for r in rounds} == {"COHORT_TOO_SMALL"}
        client = federation.clients["bank-1"]
        assert [o.reason for o in client.outcomes] == ["COHORT_TOO_SMALL"] * 5


async def test_cancelling_aborts_the_open_round(tmp_path):
    federation = Federation(tmp_path)
    cancelled = []

    async def cancel(client, kind, item):
        if kind == SUBMIT and not cancelled:
            cancelled.append(kind)
            await federation.call(
                federation.tasks.CancelTask,
                tasks_pb2.CancelTaskRequest(name=task_name("credit"), request_id=str(uuid4())),
            )

    async with federation:
        await federation.create_task("credit", task_spec())
        federation.start_clients("credit", {"bank-0": cancel})
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_CANCELLED
        assert [r.abort_reason for r in await federation.history("credit")] == ["TASK_CANCELLED"]


async def test_a_statistics_round_standardises_and_adam_goes_on_exactly(tmp_path):
    optimizer = tasks_pb2.ServerOptimizerSpec(
        kind=tasks_pb2.SERVER_OPTIMIZER_ADAM, learning_rate=0.1, beta1=0.9, beta2=0.99, tau=0.001
    )
    spec = task_spec(rounds=3, standardise=True, optimizer=optimizer, score_bins=0)
    async with Federation(tmp_path, grace_s=60) as federation:
        await federation.create_task("credit", spec)
        federation.kill()
        federation.start(crash_at="logged:reveal_shares:12")  # in training round 2
        federation.start_clients("credit")
        await federation.died()
        federation.start()
        task = await federation.ended("credit")
        assert (task.completed_rounds, task.latest_model[-1]) == (3, "4")
        rounds = await federation.history("credit")
        assert [(r.number, r.attempt) for r in rounds] == [(0, 1), (1, 1), (2, 1), (3, 1)]
        versions = [await federation.tensors("credit", version) for version in range(5)]
        means = versions[1][STANDARDISE_MEAN]
        np.testing.assert_allclose(means, 0.5, atol=0.1)
        np.testing.assert_allclose(versions[1][STANDARDISE_SCALE], 12**-0.5, atol=0.05)
        m, v = 0.0, 0.001**2
        for number in (1, 2, 3):
            update = expected_result(
                federation, rounds[number].name, spec, federation.banks
            ).mean_update
            m, v = 0.9 * m + (1 - 0.9) * update, 0.99 * v + (1 - 0.99) * np.square(update)
            old = versions[number]
            flat = np.concatenate([old["weight"].ravel(), old["bias"]]).astype(np.float64)
            flat = flat + 0.1 * m / (np.sqrt(v) + 0.001)
            new = versions[number + 1]
            made = np.concatenate([new["weight"].ravel(), new["bias"]])
            np.testing.assert_array_equal(made, flat.astype(np.float32))
            np.testing.assert_array_equal(new[STANDARDISE_MEAN], means)
        listed = await federation.call(
            federation.models.ListModels,
            models_pb2.ListModelsRequest(parent=task_name("credit")),
        )
        for parent, child in zip(listed.models, listed.models[1:], strict=False):
            assert child.parent_sha256 == parent.sha256
            verify(federation, child)


async def test_a_revoked_client_drops_out(tmp_path):
    federation = Federation(tmp_path)

    async def hook(client, kind, item):
        if kind == SUBMIT and client.name == "bank-3":
            federation.pki.revoke(client.store.current().certified.serial)
            federation.feed.publish()
            async with refused("CERTIFICATE_REVOKED"):
                while True:
                    await client.call(
                        client.stub.GetUploadStatus,
                        participation_pb2.GetUploadStatusRequest(round=item.round),
                    )

    async with federation:
        spec = task_spec()
        await federation.create_task("credit", spec)
        federation.start_clients("credit", {"bank-3": hook})
        with pytest.raises(FinSecureError) as failure:
            await federation.ended("credit")
        assert failure.value.code == "CERTIFICATE_REVOKED"
        del federation.running["bank-3"]
        await federation.ended("credit")
        await check_average_round(federation, "credit", spec, set(federation.banks) - {"bank-3"})
