"""An operator's calls to the services; answers come back as documents (see `convert.document`)."""

import hashlib
import uuid
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import grpc
from finsecure.aggregation.v1 import (
    models_pb2,
    models_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)
from finsecure.keyservice.v1 import (
    certificates_pb2,
    certificates_pb2_grpc,
    members_pb2,
    members_pb2_grpc,
)
from finsecure_crypto.certificates import RevocationList, Role, TrustAnchors
from finsecure_crypto.errors import IntegrityError
from finsecure_rpc.call import call, stream
from finsecure_rpc.model_statements import ModelKeys

from finsecure_cli.callers import Caller, CertificateCaller
from finsecure_cli.convert import Document, document, task_spec
from finsecure_cli.rounds import ROUND_ENDS
from finsecure_cli.settings import OperatorSettings
from finsecure_cli.task_file import TaskFile

_CHUNK_BYTES = 1 << 20
PAGE = 500
"""Entries of a page."""
_CALL_S = 15.0
_TRANSFER_S = 600.0
_WATCH_S = 3600.0


class Services:
    """Connections to the key service and to the aggregator of one federation.

    Args:
        settings: the operator's configuration.
        wait_for_ready: whether calls wait for a service that is still starting.
        caller: who calls; by default the operator with its certificate.
    """

    def __init__(
        self,
        settings: OperatorSettings,
        *,
        wait_for_ready: bool = False,
        caller: Caller | None = None,
    ) -> None:
        self._settings = settings
        self._wait = wait_for_ready
        self._caller = caller or CertificateCaller(settings)
        self._channels: dict[Role, grpc.aio.Channel] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for channel in self._channels.values():
            await channel.close(None)

    @property
    def federation(self) -> str:
        """Resource name of the federation that the configuration names."""
        return f"federations/{self._settings.federation}"

    @property
    def trust_domain(self) -> str:
        """SPIFFE trust domain of that federation."""
        return f"{self._settings.federation}.{self.anchors.domain}"

    @property
    def anchors(self) -> TrustAnchors:
        """The authorities that the operator believes."""
        return self._caller.anchors

    # Key service

    async def create_member(self, name: str, display_name: str) -> tuple[Document, str]:
        """Register a member; returns it and its API key, which is shown this once."""
        request = members_pb2.CreateMemberRequest(
            member=members_pb2.Member(name=name, display_name=display_name),
            request_id=str(uuid.uuid4()),
        )
        answer = await self.keys(members_pb2_grpc.MemberServiceStub, "CreateMember", request)
        return document(answer.member), answer.api_key

    async def list_members(self, parent: str) -> list[Document]:
        """List the members of `federations/{id}`, or the operators (empty parent)."""
        return await self.pages(
            lambda token: self.keys(
                members_pb2_grpc.MemberServiceStub,
                "ListMembers",
                members_pb2.ListMembersRequest(parent=parent, page_size=PAGE, page_token=token),
            ),
            "members",
        )

    async def revoke_member(self, name: str, reason: str) -> Document:
        """End a membership."""
        request = members_pb2.RevokeMemberRequest(
            name=name, reason=reason, request_id=str(uuid.uuid4())
        )
        answer = await self.keys(members_pb2_grpc.MemberServiceStub, "RevokeMember", request)
        return document(answer.member)

    async def suspend_member(self, name: str, reason: str) -> Document:
        """Let a member do nothing until it is reactivated."""
        request = members_pb2.SuspendMemberRequest(
            name=name, reason=reason, request_id=str(uuid.uuid4())
        )
        answer = await self.keys(members_pb2_grpc.MemberServiceStub, "SuspendMember", request)
        return document(answer.member)

    async def reactivate_member(self, name: str) -> Document:
        """End a suspension."""
        request = members_pb2.ReactivateMemberRequest(name=name, request_id=str(uuid.uuid4()))
        answer = await self.keys(members_pb2_grpc.MemberServiceStub, "ReactivateMember", request)
        return document(answer.member)

    async def issue_api_key(self, name: str) -> str:
        """Void a member's unused API keys and return a new one."""
        request = members_pb2.IssueApiKeyRequest(name=name, request_id=str(uuid.uuid4()))
        answer = await self.keys(members_pb2_grpc.MemberServiceStub, "IssueApiKey", request)
        return str(answer.api_key)

    async def reissue_credentials(self, name: str, reason: str) -> tuple[str, list[str]]:
        """Revoke all that a member has; returns a new API key and the certificates that ended."""
        request = members_pb2.ReissueCredentialsRequest(
            name=name, reason=reason, request_id=str(uuid.uuid4())
        )
        answer = await self.keys(members_pb2_grpc.MemberServiceStub, "ReissueCredentials", request)
        return str(answer.api_key), list(answer.revoked_certificates)

    async def revocations(self) -> RevocationList:
        """Fetch the newest revocation list with the authorities, and verify both.

        Raises:
            AuthenticationError: the list is not signed by the authorities, or is stale.
        """
        answer = await self.keys(
            certificates_pb2_grpc.CertificateServiceStub,
            "GetRevocationList",
            certificates_pb2.GetRevocationListRequest(),
        )
        if answer.trust_bundle.intermediates:
            self._caller.adopt(tuple(answer.trust_bundle.intermediates))
        now = datetime.now(UTC)
        revocations = RevocationList.parse(answer.crl, self.anchors, now)
        revocations.check_fresh(now)
        return revocations

    # Aggregator: tasks and rounds

    async def create_task(
        self, task: TaskFile, tensors: Sequence[tuple[str, tuple[int, ...]]]
    ) -> Document:
        """Register a task; it then waits for its initial model."""
        request = tasks_pb2.CreateTaskRequest(
            task=tasks_pb2.Task(
                name=f"{self.federation}/tasks/{task.name}",
                spec=task_spec(self.federation, task, tensors),
            ),
            request_id=str(uuid.uuid4()),
        )
        answer = await self._tasks("CreateTask", request)
        return document(answer.task)

    async def list_tasks(self) -> list[Document]:
        """List the federation's tasks."""
        return await self.pages(
            lambda token: self._tasks(
                "ListTasks",
                tasks_pb2.ListTasksRequest(
                    parent=self.federation, page_size=PAGE, page_token=token
                ),
            ),
            "tasks",
        )

    async def get_task(self, task: str) -> Document:
        """Read a task, by its id."""
        answer = await self._tasks("GetTask", tasks_pb2.GetTaskRequest(name=self._task(task)))
        return document(answer.task)

    async def cancel_task(self, task: str) -> Document:
        """End a task."""
        request = tasks_pb2.CancelTaskRequest(name=self._task(task), request_id=str(uuid.uuid4()))
        answer = await self._tasks("CancelTask", request)
        return document(answer.task)

    async def watch_task(self, task: str) -> AsyncIterator[tuple[Document, Document | None]]:
        """Yield the task with its running or last round whenever it changes, until it ends.

        The service sends only the newest state, so the end of a round may be passed over when the
        next one starts at once; it is then fetched and yielded first.
        """
        stub: Any = tasks_pb2_grpc.TaskServiceStub(self._channel(Role.AGGREGATOR))
        request = tasks_pb2.WatchTaskRequest(name=self._task(task))
        unfinished = ""
        async for answer in stream(
            stub.WatchTask, request, deadline_s=_WATCH_S, wait_for_ready=self._wait
        ):
            found = document(answer.task)
            round_ = document(answer.round) if answer.HasField("round") else None
            if unfinished and round_ is not None and round_["name"] != unfinished:
                yield found, await self.get_round(task, unfinished.rpartition("/")[2])
            unfinished = (
                round_["name"] if round_ is not None and round_["state"] not in ROUND_ENDS else ""
            )
            yield found, round_

    async def get_round(self, task: str, round_: str) -> Document:
        """Read a round, by the task's id and the round's `{number}-{attempt}`."""
        stub: Any = tasks_pb2_grpc.RoundServiceStub(self._channel(Role.AGGREGATOR))
        request = tasks_pb2.GetRoundRequest(name=f"{self._task(task)}/rounds/{round_}")
        return document((await self._call(stub.GetRound, request)).round)

    async def list_rounds(self, task: str) -> list[Document]:
        """List a task's rounds, oldest first."""
        stub: Any = tasks_pb2_grpc.RoundServiceStub(self._channel(Role.AGGREGATOR))
        return await self.pages(
            lambda token: self._call(
                stub.ListRounds,
                tasks_pb2.ListRoundsRequest(
                    parent=self._task(task), page_size=PAGE, page_token=token
                ),
            ),
            "rounds",
        )

    # Aggregator: models

    async def get_model(self, task: str, version: str) -> Document:
        """Read the signed description of a version: its number, or `latest`."""
        request = models_pb2.GetModelRequest(name=f"{self._task(task)}/models/{version}")
        return document((await self._models("GetModel", request)).model)

    async def recheck_model(self, task: str, version: str) -> Document:
        """Have a version's file read again; returns its description as it stands then."""
        request = models_pb2.RecheckModelRequest(name=f"{self._task(task)}/models/{version}")
        return document((await self._models("RecheckModel", request)).model)

    async def list_models(self, task: str) -> list[Document]:
        """List a task's model versions, oldest first."""
        return await self.pages(
            lambda token: self._models(
                "ListModels",
                models_pb2.ListModelsRequest(
                    parent=self._task(task), page_size=PAGE, page_token=token
                ),
            ),
            "models",
        )

    async def upload_model(self, task: str, content: bytes) -> Document:
        """Upload a task's initial model, the bytes of a safetensors file."""
        stub: Any = models_pb2_grpc.ModelServiceStub(self._channel(Role.AGGREGATOR))
        answer = await call(
            stub.UploadInitialModel,
            _upload(self._task(task), content),
            deadline_s=_TRANSFER_S,
            address=self._settings.aggregator,
            wait_for_ready=self._wait,
        )
        return document(answer.model)

    async def download_model(self, model: Document) -> bytes:
        """Fetch the file of a version, described by `get_model` or `list_models`.

        Raises:
            IntegrityError: CHUNK_REJECTED, MODEL_DIGEST_MISMATCH; the aggregator's fault.
        """
        stub: Any = models_pb2_grpc.ModelServiceStub(self._channel(Role.AGGREGATOR))
        request = models_pb2.DownloadModelRequest(name=model["name"])
        content = bytearray()
        async for answer in stream(
            stub.DownloadModel, request, deadline_s=_TRANSFER_S, wait_for_ready=self._wait
        ):
            chunk = answer.chunk
            if (
                chunk.offset != len(content)
                or zlib.crc32(chunk.content) != chunk.crc32
                or len(content) + len(chunk.content) > model["size_bytes"]
            ):
                raise IntegrityError(
                    "CHUNK_REJECTED",
                    f"a piece of {model['name']} arrived damaged; download it again",
                )
            content += chunk.content
        if hashlib.sha256(content).hexdigest() != model["sha256"]:
            raise IntegrityError(
                "MODEL_DIGEST_MISMATCH",
                f"{model['name']} does not have the SHA-256 of its description; download it "
                "again, and ask the operator of the aggregator if that does not help",
            )
        return bytes(content)

    def _task(self, task: str) -> str:
        return task if "/" in task else f"{self.federation}/tasks/{task}"

    async def keys(self, stub: Callable[[grpc.aio.Channel], Any], method: str, request: Any) -> Any:
        """Call a method of the key service."""
        return await self._call(getattr(stub(self._channel(Role.KEYSERVICE)), method), request)

    def key_stream(
        self, stub: Callable[[grpc.aio.Channel], Any], method: str, request: Any
    ) -> AsyncGenerator[Any, None]:
        """Call a method of the key service that answers with a stream."""
        bound = getattr(stub(self._channel(Role.KEYSERVICE)), method)
        return stream(bound, request, deadline_s=_CALL_S, wait_for_ready=self._wait)

    async def aggregator(
        self, stub: Callable[[grpc.aio.Channel], Any], method: str, request: Any
    ) -> Any:
        """Call a method of the aggregator."""
        return await self._call(getattr(stub(self._channel(Role.AGGREGATOR)), method), request)

    async def _tasks(self, method: str, request: Any) -> Any:
        return await self.aggregator(tasks_pb2_grpc.TaskServiceStub, method, request)

    async def _models(self, method: str, request: Any) -> Any:
        return await self.aggregator(models_pb2_grpc.ModelServiceStub, method, request)

    async def _call(self, method: Any, request: Any) -> Any:
        return await call(method, request, deadline_s=_CALL_S, wait_for_ready=self._wait)

    async def pages(self, fetch: Callable[[str], Any], field: str) -> list[Document]:
        """Read all pages of a listing; `fetch` gets the token of a page, `field` holds it."""
        documents: list[Document] = []
        token = ""
        while True:
            answer = await fetch(token)
            documents += [document(item) for item in getattr(answer, field)]
            token = answer.next_page_token
            if not token:
                return documents

    def model_keys(self) -> ModelKeys | None:
        """What verifies the statements of the managed key that the operator insists on, if any."""
        key = self._settings.model_key
        return None if key is None else ModelKeys(lambda: self._channel(Role.KEYSERVICE), key)

    def _channel(self, role: Role) -> grpc.aio.Channel:
        if role not in self._channels:
            self._channels[role] = self._caller.open(role)
        return self._channels[role]


async def _upload(task: str, content: bytes) -> AsyncIterator[models_pb2.UploadInitialModelRequest]:
    yield models_pb2.UploadInitialModelRequest(
        upload=models_pb2.ModelUpload(
            task=task, size_bytes=len(content), sha256=hashlib.sha256(content).digest()
        )
    )
    for offset in range(0, len(content), _CHUNK_BYTES):
        piece = content[offset : offset + _CHUNK_BYTES]
        yield models_pb2.UploadInitialModelRequest(
            chunk=models_pb2.Chunk(offset=offset, content=piece, crc32=zlib.crc32(piece))
        )
