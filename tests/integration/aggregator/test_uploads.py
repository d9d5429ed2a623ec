"""Uploads of masked inputs: resumed, cut off, tampered with, repeated, contradicted."""

import hashlib
import zlib

import pytest
from finsecure.aggregation.v1 import models_pb2, participation_pb2, tasks_pb2
from finsecure_crypto.errors import (
    FinSecureError,
    IntegrityError,
    ProtocolViolationError,
    StateError,
)

from tests.support.federation import SUBMIT, Federation, part, task_spec
from tests.support.rounds import check_average_round

SPEC = task_spec(tensors={"weight": (300, 1000)})  # about 0.8 MB of masked input
STEP = 100_000


def requests(header, content, *, start=0, end=None, change=None):
    async def stream():
        yield participation_pb2.SubmitInputRequest(header=header)
        for offset in range(start, len(content) if end is None else end, STEP):
            piece = part(content[offset : offset + STEP], offset)
            if change is not None and offset == start + STEP:
                change(piece.chunk)
            yield piece

    return stream()


async def submit(client, stream):
    return await client.connection.call(client.stub.SubmitInput, stream, deadline_s=30)


async def committed(client, item):
    return await client.call(
        client.stub.GetUploadStatus, participation_pb2.GetUploadStatusRequest(round=item.round)
    )


async def run_with(tmp_path, misbehave, *, spec=SPEC, survivors=None):
    """Run a round in which bank-1 does something before it uploads as usual."""
    seen = []

    async def hook(client, kind, item):
        if kind == SUBMIT:
            client._answers[item.round, SUBMIT] = made = client._submit_input(item)
            seen.append(await misbehave(client, item, *made))

    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit", {"bank-1": hook})
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        assert len(seen) == 1
        everybody = set(federation.banks)
        await check_average_round(federation, "credit", spec, survivors or everybody)
        return (await federation.history("credit"))[-1]


async def test_an_upload_that_was_cut_off_is_resumed_from_what_is_on_disk(tmp_path):
    async def misbehave(client, item, header, content):
        cut = await submit(client, requests(header, content, end=3 * STEP))
        assert (cut.committed_bytes, cut.accepted) == (3 * STEP, False)
        status = await committed(client, item)
        assert (status.committed_bytes, status.accepted) == (3 * STEP, False)
        with pytest.raises(IntegrityError) as failure:
            await submit(client, requests(header, content, start=4 * STEP))
        assert failure.value.code == "CHUNK_OFFSET"
        whole = await submit(client, requests(header, content, start=3 * STEP))
        assert (whole.committed_bytes, whole.accepted) == (len(content), True)

    done = await run_with(tmp_path, misbehave)
    assert done.received_bytes["bank-1"] > 0.7e6
    assert not done.blamed


async def test_an_upload_survives_a_kill_of_the_aggregator_halfway(tmp_path):
    federation = Federation(tmp_path, grace_s=60)

    async def hook(client, kind, item):
        if kind == SUBMIT:
            client._answers[item.round, SUBMIT] = header, content = client._submit_input(item)
            await submit(client, requests(header, content, end=5 * STEP))
            federation.kill()
            federation.start()
            assert (await committed(client, item)).committed_bytes == 5 * STEP

    async with federation:
        await federation.create_task("credit", SPEC)
        federation.start_clients("credit", {"bank-1": hook})
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED
        assert [r.attempt for r in await federation.history("credit")] == [1]
        await check_average_round(federation, "credit", SPEC, set(federation.banks))


async def test_a_tampered_chunk_is_refused_and_what_came_before_stays(tmp_path):
    def flip(chunk):
        chunk.content = bytes([chunk.content[0] ^ 1]) + chunk.content[1:]

    async def misbehave(client, item, header, content):
        with pytest.raises(IntegrityError) as failure:
            await submit(client, requests(header, content, change=flip))
        assert failure.value.code == "CHUNK_CORRUPT"
        assert (await committed(client, item)).committed_bytes == STEP

    await run_with(tmp_path, misbehave)


async def test_a_chunk_tampered_with_its_checksum_is_found_by_the_digest(tmp_path):
    def forge(chunk):
        chunk.content = bytes(len(chunk.content))
        chunk.crc32 = zlib.crc32(chunk.content)

    async def misbehave(client, item, header, content):
        with pytest.raises(IntegrityError) as failure:
            await submit(client, requests(header, content, change=forge))
        assert failure.value.code == "UPLOAD_DIGEST_MISMATCH"
        assert (await committed(client, item)).committed_bytes == 0

    await run_with(tmp_path, misbehave)


async def test_an_upload_that_never_becomes_whole_is_a_drop_out(tmp_path):
    async def misbehave(client, item, header, content):
        await submit(client, requests(header, content, end=2 * STEP))
        client._answers[item.round, SUBMIT] = header, content[: 2 * STEP]

    spec = task_spec(tensors={"weight": (300, 1000)}, deadlines={SUBMIT: 6})
    banks = {"bank-0", "bank-2", "bank-3", "bank-4"}
    await run_with(tmp_path, misbehave, spec=spec, survivors=banks)


async def test_headers_that_no_honest_client_sends(tmp_path):
    async def refused(client, header, content, code, kind):
        with pytest.raises(kind) as failure:
            await submit(client, requests(header, content))
        assert failure.value.code == code

    async def misbehave(client, item, header, content):
        short = participation_pb2.InputHeader()
        short.CopyFrom(header)
        short.size_bytes -= 8
        await refused(client, short, content, "WRONG_INPUT_SIZE", ProtocolViolationError)
        forged = participation_pb2.InputHeader()
        forged.CopyFrom(header)
        forged.sha256 = hashlib.sha256(b"other").digest()
        await refused(client, forged, content, "MESSAGE_SIGNATURE", ProtocolViolationError)
        await refused(client, header, content + bytes(8), "UPLOAD_TOO_LONG", IntegrityError)
        with pytest.raises(FinSecureError) as failure:
            await submit(client, _chunks_only(content))
        assert failure.value.code == "UPLOAD_WITHOUT_HEADER"
        stale = participation_pb2.InputHeader()
        stale.CopyFrom(header)
        stale.round = item.round.replace("1-1", "1-2")
        await refused(client, stale, content, "ROUND_NOT_FOUND", FinSecureError)

    done = await run_with(tmp_path, misbehave)
    assert {(b.client, b.reason) for b in done.blamed} == {
        ("bank-1", "WRONG_INPUT_SIZE"),
        ("bank-1", "MESSAGE_SIGNATURE"),
    }


async def _chunks_only(content):
    yield participation_pb2.SubmitInputRequest(
        chunk=models_pb2.Chunk(offset=0, content=content[:10], crc32=zlib.crc32(content[:10]))
    )


async def test_repeated_and_contradicting_messages(tmp_path):
    """The same message again is the same answer in any phase; another one is an offence."""
    problems = []

    async def hook(client, kind, item):
        if kind != "confirm_survivors":
            return
        header, content = client._answers[item.round, SUBMIT]
        again = await submit(client, requests(header, content))
        assert (again.committed_bytes, again.accepted) == (len(content), True)
        keys = client._answers[item.round, "advertise_keys"]
        await client.call(client.stub.AdvertiseKeys, keys)
        shares = client._answers[item.round, "share_keys"]
        await client.call(client.stub.ShareKeys, shares)
        other = participation_pb2.ShareKeysRequest()
        other.CopyFrom(shares)
        other.self_mask_commitment = bytes(32)
        with pytest.raises(ProtocolViolationError) as failure:
            await client.call(client.stub.ShareKeys, other)
        problems.append(failure.value.code)
        early = participation_pb2.RevealSharesRequest(round=item.round)
        with pytest.raises(StateError) as late:
            await client.call(client.stub.RevealShares, early)
        problems.append(late.value.code)

    spec = task_spec()
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit", {"bank-1": hook})
        await federation.ended("credit")
        assert problems == ["DUPLICATE_MESSAGE", "WRONG_PHASE"]
        await check_average_round(federation, "credit", spec, set(federation.banks))
        client = federation.clients["bank-1"]
        done = (await federation.history("credit"))[-1]
        assert [(b.client, b.reason) for b in done.blamed] == [("bank-1", "DUPLICATE_MESSAGE")]
        # The round is over: repetitions still get their answer, all else is stale.
        for kind, method in (
            ("advertise_keys", client.stub.AdvertiseKeys),
            ("reveal_shares", client.stub.RevealShares),
        ):
            await client.call(method, client._answers[done.name, kind])
        header, content = client._answers[done.name, SUBMIT]
        assert (await submit(client, requests(header, content))).accepted
        late = participation_pb2.ConfirmSurvivorsRequest(round=done.name, signature=bytes(64))
        with pytest.raises(StateError) as failure:
            await client.call(client.stub.ConfirmSurvivors, late)
        assert failure.value.code == "STALE_ROUND"
