"""Whole rounds over gRPC and mTLS, drop-outs at each phase among them."""

import pytest
from finsecure.aggregation.v1 import tasks_pb2
from finsecure_crypto.secagg import sparse_search
from finsecure_crypto.secagg.parameters import ClientPolicy, Profile

from tests.support.federation import (
    CONFIRM,
    PHASES,
    REVEAL,
    SUBMIT,
    Federation,
    leave_before,
    task_spec,
    terms_of,
)
from tests.support.rounds import check_average_round
from tests.support.secagg import pieces


async def test_a_round_equals_the_plain_computation(tmp_path):
    spec = task_spec(rounds=2)
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit")
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED
        assert task.completed_rounds == 2
        await check_average_round(federation, "credit", spec, set(federation.banks))
        assert not any(client.errors for client in federation.clients.values())


@pytest.mark.parametrize("phase", PHASES)
async def test_a_client_that_leaves_before_a_phase_spoils_nothing(tmp_path, phase):
    spec = task_spec()
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit", {"bank-2": leave_before(phase)})
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        survivors = set(federation.banks)
        if phase not in (CONFIRM, REVEAL):
            survivors -= {"bank-2"}
        await check_average_round(federation, "credit", spec, survivors)


async def test_a_client_that_reveals_wrong_shares_is_blamed_and_corrected(tmp_path):
    async def lie(client, kind, item):
        if kind == REVEAL:
            said = client._reveal_shares(item)
            said.self_mask_shares = b"".join(
                ((int.from_bytes(share[:4], "little") + 1) % 2**30).to_bytes(4, "little")
                + share[4:]
                for share in pieces(said.self_mask_shares, 36)
            )
            client._answers[item.round, REVEAL] = said

    # Five shares of which three rebuild a secret: one may be wrong.
    spec = task_spec(profile=tasks_pb2.SECURITY_PROFILE_SEMI_HONEST)
    policy = ClientPolicy(minimum_profile=Profile.SEMI_HONEST)
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit", {"bank-1": lie}, policy)
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        await check_average_round(federation, "credit", spec, set(federation.banks))
        done = (await federation.history("credit"))[-1]
        assert [(b.client, b.reason) for b in done.blamed] == [("bank-1", "SHARE_WRONG")]


async def test_two_of_five_may_leave_a_semi_honest_round(tmp_path):
    spec = task_spec(profile=tasks_pb2.SECURITY_PROFILE_SEMI_HONEST)
    policy = ClientPolicy(minimum_profile=Profile.SEMI_HONEST)
    hooks = {"bank-0": leave_before(SUBMIT), "bank-4": leave_before(CONFIRM)}
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit", hooks, policy)
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        survivors = {"bank-1", "bank-2", "bank-3", "bank-4"}
        await check_average_round(federation, "credit", spec, survivors)


async def test_too_many_drop_outs_abort_and_the_next_attempt_goes_on_without_them(tmp_path):
    """Two of five gone mid-round is one too many for the active profile; three go on alone."""
    spec = task_spec(minimum=3, deadlines={SUBMIT: 4})
    hooks = {"bank-0": leave_before(SUBMIT), "bank-1": leave_before(SUBMIT)}
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit", hooks)
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        first, second = await federation.history("credit")
        assert (first.abort_reason, second.attempt) == ("TOO_FEW_INPUTS", 2)
        assert list(second.invited) == ["bank-2", "bank-3", "bank-4"]
        await check_average_round(federation, "credit", spec, set(second.invited))


@pytest.mark.parametrize("phase", [SUBMIT, REVEAL])
async def test_a_sparse_graph_withstands_a_drop_out(tmp_path, phase):
    spec = task_spec(minimum=15, maximum=20, sparse=(0.05, 0.05))
    graph = terms_of(spec).protection.graph
    assert sparse_search.search(20, graph.corrupt_fraction, graph.dropout_fraction, True)
    async with Federation(tmp_path, banks=20, settle_s=3) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit", {"bank-7": leave_before(phase)})
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        survivors = set(federation.banks) - ({"bank-7"} if phase == SUBMIT else set())
        await check_average_round(federation, "credit", spec, survivors)
