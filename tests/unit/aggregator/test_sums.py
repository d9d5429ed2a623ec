"""Audited sums: exact totals, small groups, forged and hostile contributions, restarts, rights."""

import asyncio
import os
import sys
from dataclasses import replace

import pytest
from finsecure.aggregation.v1 import sums_pb2
from finsecure_aggregator.ciphers import WorkerSilentError
from finsecure_aggregator.clock import SystemClock
from finsecure_aggregator.examination import examine
from finsecure_aggregator.policy import POLICY
from finsecure_aggregator.sums import desk, store
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import (
    FinSecureError,
    NotFoundError,
    ProtocolViolationError,
    UnavailableError,
)
from finsecure_crypto.minimum_cohorts import MinimumCohorts
from google.protobuf.duration_pb2 import Duration

from tests.support.encrypted import TRUSTEES, FakeTrustee
from tests.support.postgresql import needs_postgresql, new_database
from tests.support.sums import (
    BANKS,
    LABELS,
    NAME,
    Bench,
    contributed,
    request_id,
    spec,
    totals,
)

OPENED, FAILED = sums_pb2.SUM_STATE_OPENED, sums_pb2.SUM_STATE_FAILED


@pytest.fixture
async def bench(tmp_path, clock):
    benches = []

    async def make(conducts=None, time=clock, **keywords):
        benches.append(Bench(tmp_path, time, conducts, **keywords))
        return await benches[-1].begin()

    yield make
    for each in benches:
        await each.close()


async def full(made, banks=BANKS):
    await made.create()
    for bank in banks:
        await made.contribute(bank)
    return made


async def code(awaitable):
    with pytest.raises(FinSecureError) as caught:
        await awaitable
    return caught.value.code


async def test_the_totals_are_those_of_the_plain_sum_and_nothing_else_stays(bench, tmp_path):
    made = await full(await bench())
    assert (await made.get()).contributors == list(BANKS)
    opening = await made.open()
    assert (opening.state, list(opening.totals)) == (sums_pb2.SUM_STATE_OPENING, [])
    sum_ = await made.ended()
    assert (sum_.state, list(sum_.totals)) == (OPENED, totals())
    assert [each.reason for each in sum_.trustees] == ["", ""]
    await made.finished()
    assert list((tmp_path / "blobs" / "sums").iterdir()) == []
    # Opened once: asked again, it answers the same, and takes nothing more.
    assert (await made.open()).totals == sum_.totals
    assert await code(made.contribute("bank-a", await made.input("bank-a", 1))) == (
        "CONTRIBUTION_REPEATED"
    )


@pytest.mark.slow
@needs_postgresql
async def test_postgresql_keeps_sums_too(bench):
    url = new_database()
    first = await full(await bench(database=url), BANKS[:2])
    members = first.members
    await first.close()
    second = await bench(database=url, members=members)
    await second.contribute("bank-a")
    assert await code(second.contribute("bank-c", await second.input("bank-a"))) == (
        "CONTRIBUTION_REPEATED"
    )
    await second.contribute("bank-c")
    assert (await second.get()).contributors == list(BANKS)
    await second.open()
    assert list((await second.ended()).totals) == totals()


async def test_below_the_minimum_nothing_is_opened(bench, clock):
    made = await full(await bench(), BANKS[:2])
    assert await code(made.open()) == "SUM_GROUP_TOO_SMALL"
    assert (await made.get()).state == sums_pb2.SUM_STATE_COLLECTING
    await clock.advance(3601)
    sum_ = await made.ended()
    assert (sum_.state, sum_.reason, list(sum_.totals)) == (FAILED, "SUM_GROUP_TOO_SMALL", [])
    assert not any(trustee.asked for trustee in made.desk.trustees.values())


async def test_it_opens_by_itself_when_the_time_for_contributions_is_over(bench, clock):
    made = await full(await bench())
    await clock.advance(3601)
    sum_ = await made.ended()
    assert (sum_.state, list(sum_.totals)) == (OPENED, totals())


async def test_a_federation_does_not_open_what_is_smaller_than_its_minimum(bench):
    made = await bench(minimum=50)
    assert await code(made.create()) == "MINIMUM_BELOW_POLICY"


async def test_no_sum_is_asked_for_or_opened_below_the_federations_minimum(bench, clock):
    made = await bench()
    made.minima.demanded = MinimumCohorts("federations/lending", 2, sums=4)
    assert await code(made.create()) == "COHORT_BELOW_FEDERATION_MINIMUM"
    made.minima.demanded = MinimumCohorts("federations/lending", 3, sums=3)
    await full(made)
    made.minima.demanded = MinimumCohorts("federations/lending", 4, sums=4)
    assert await code(made.open()) == "SUM_GROUP_TOO_SMALL"
    made.minima.demanded = UnavailableError("MINIMUM_COHORT_UNKNOWN", "never read")
    assert await code(made.open()) == "MINIMUM_COHORT_UNKNOWN"
    assert not any(trustee.asked for trustee in made.desk.trustees.values())
    made.minima.demanded = MinimumCohorts("federations/lending", 5, sums=3)
    await made.open()
    assert (await made.ended()).state == OPENED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"maximum": 2**63}, "LANE_OVERFLOW"),
        ({"maximum_contributors": 2}, "COHORT_BOUNDS"),
        ({"collecting": Duration(seconds=8 * 86400)}, "DEADLINE_BOUNDS"),
        ({"opening": Duration(seconds=2 * 86400)}, "DEADLINE_BOUNDS"),
        ({"encryption_key": "federations/other/encryptionKeys/first"}, "FEDERATION_NOT_FOUND"),
    ],
)
async def test_impossible_terms_are_refused(bench, changes, reason):
    made = await bench()
    assert await code(made.create(**changes)) == reason


async def test_names_are_used_once_and_repeated_requests_harmless(bench):
    made = await bench()
    request = sums_pb2.CreateSumRequest(name=NAME, spec=spec(), request_id=request_id())
    first = await made.call("CreateSum", request)
    assert await made.call("CreateSum", request) == first
    assert await code(made.create()) == "SUM_EXISTS"
    await made.create(name=NAME + "-2")
    assert await code(made.create(name=NAME + "-3")) == "TOO_MANY_SUMS"
    await made.create("client/bank-a", NAME + "-3")  # each creator has its own allowance
    page = await made.call(
        "ListSums", sums_pb2.ListSumsRequest(parent="federations/lending", page_size=2)
    )
    assert [each.name for each in page.sums] == [NAME, NAME + "-2"]
    assert not page.sums[0].spec.labels
    rest = sums_pb2.ListSumsRequest(
        parent="federations/lending", page_size=2, page_token=page.next_page_token
    )
    assert [each.name for each in (await made.call("ListSums", rest)).sums] == [NAME + "-3"]


async def test_a_member_contributes_once_and_the_same_bytes_are_the_same_contribution(bench):
    made = await bench()
    await made.create()
    first = await made.contribute("bank-a")
    assert await made.contribute("bank-a") == first
    assert await code(made.contribute("bank-a", await made.input("bank-a", 1))) == (
        "CONTRIBUTION_REPEATED"
    )
    assert (
        await code(made.contribute("bank-b", await made.input("bank-a"))) == "CONTRIBUTION_REPEATED"
    )
    assert (await made.get()).contributions == 1


async def test_two_contributions_of_one_member_at_once_leave_one(bench):
    made = await bench()
    await made.create()
    requests = [await made.contribution("bank-a", await made.input("bank-a", n)) for n in range(3)]
    results = await asyncio.gather(
        *(made.call("Contribute", each, "client/bank-a") for each in requests),
        return_exceptions=True,
    )
    refused = [each for each in results if isinstance(each, FinSecureError)]
    assert [each.code for each in refused] == ["CONTRIBUTION_IN_PROGRESS"] * 2
    assert len(list(made.blobs.sum_folder(NAME).iterdir())) == 1


async def test_forged_unsigned_and_revoked_contributions_are_refused(bench):
    made = await bench()
    await made.create()
    forged = await made.contribution("bank-a", signer="bank-b")
    assert await code(made.call("Contribute", forged, "client/bank-a")) == "CONTRIBUTION_UNSIGNED"
    stolen = await made.contribution("bank-a")
    assert await code(made.call("Contribute", stolen, "client/bank-b")) == "CERTIFICATE_UNTRUSTED"
    made.members.refused["bank-a"] = "CERTIFICATE_REVOKED"
    assert await code(made.contribute("bank-a")) == "CERTIFICATE_REVOKED"
    assert (await made.get()).contributions == 0


async def test_a_signature_for_another_sum_of_the_same_name_does_not_serve(bench, tmp_path):
    made = await bench()
    await made.create()
    request = await made.contribution("bank-a")
    made.database.run_sync(lambda c: c.exec_driver_sql("UPDATE sums SET nonce = ?", (bytes(32),)))
    assert await code(made.call("Contribute", request, "client/bank-a")) == "CONTRIBUTION_UNSIGNED"


async def test_hostile_ciphertexts_fail_alone(bench):
    made = await full(await bench())
    size = len(await made.input("bank-a"))
    assert await code(made.contribute("bank-d", b"\xff" * size)) == "CIPHERTEXT_MALFORMED"
    assert await code(made.contribute("bank-d", b"\x01" * (size - 1))) == "WRONG_INPUT_SIZE"
    binding, whole = await made.binding(), await made.input("bank-d")
    for proven, reason in (
        (contributed("bank-a", binding, 1), "PLAINTEXT_PROOF_REJECTED"),
        (contributed("bank-d", replace(binding, minimum_cohort=2)), "PLAINTEXT_PROOF_REJECTED"),
        (whole[:512], "PLAINTEXT_PROOF_MISSING"),
    ):
        assert await code(made.contribute("bank-d", proven)) == reason
    await made.open()
    assert list((await made.ended()).totals) == totals()


@pytest.mark.slow
async def test_what_kills_workers_fails_alone(bench, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", *sys.path]))
    made = await full(await bench(module="tests.support.bombed_cipher_worker"))
    bomb = b"BOOM".ljust(len(await made.input("bank-a")), b".")
    assert await code(made.contribute("bank-d", bomb)) == "WORKER_KILLED"
    await made.open()
    assert list((await made.ended()).totals) == totals()


async def test_a_member_has_one_contribution_looked_into_at_a_time(bench, monkeypatch, tmp_path):
    made = await bench()
    await made.create()
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(*arguments):
        begun.set()
        await may_end.wait()
        await examine(*arguments)

    monkeypatch.setattr(desk, "examine", slow)
    first = asyncio.create_task(made.contribute("bank-a"))
    async with asyncio.timeout(60):
        await begun.wait()
        assert await code(made.contribute("bank-a", await made.input("bank-a", 1))) == (
            "CONTRIBUTION_IN_PROGRESS"
        )
        # Whoever hangs up does not stop it.
        first.cancel()
        await asyncio.wait({first})
        assert await code(made.contribute("bank-a")) == "CONTRIBUTION_IN_PROGRESS"
        with made.changes.watch((NAME,)) as changed:
            may_end.set()
            while (await made.get()).contributions < 1:
                await changed.wait()
                changed.clear()
    await made.contribute("bank-a")  # the same again
    assert len(list((tmp_path / "blobs" / "sums" / "exposure").iterdir())) == 1


async def test_a_member_has_few_contributions_refused_and_none_left_on_the_disk(bench, tmp_path):
    made = await bench()
    await made.create()
    size = len(await made.input("bank-a"))
    for fresh in range(10):
        content = b"\xff" * (size - 1) + bytes([fresh])
        assert await code(made.contribute("bank-d", content)) == "CIPHERTEXT_MALFORMED"
    assert await code(made.contribute("bank-d")) == "CONTRIBUTIONS_REFUSED"
    assert list((tmp_path / "blobs" / "sums" / "exposure").iterdir()) == []
    await made.contribute("bank-a")  # of others nothing was refused


async def test_an_examination_that_takes_too_long_accuses_nobody(bench, monkeypatch, tmp_path):
    made = await bench()
    await made.create()
    asked = []

    async def ask(key, do, **request):
        asked.append(do)
        raise WorkerSilentError("silent")

    with monkeypatch.context() as patched:
        patched.setattr(made.desk.workers, "ask", ask)
        for _ in range(11):
            assert await code(made.contribute("bank-a")) == "EXAMINATION_TIMED_OUT"
    assert asked == ["check"] * 11
    assert list((tmp_path / "blobs" / "sums" / "exposure").iterdir()) == []
    await made.contribute("bank-a")


async def test_a_full_sum_takes_no_more(bench):
    made = await bench()
    await made.create(maximum_contributors=3, labels=LABELS)
    for bank in BANKS:
        await made.contribute(bank)
    assert await code(made.contribute("bank-d")) == "SUM_FULL"


async def test_members_that_were_revoked_since_are_left_out_and_named(bench):
    made = await full(await bench(minimum=2), BANKS)
    made.members.refused["bank-b"] = "CERTIFICATE_REVOKED"
    assert await code(made.open()) == "SUM_GROUP_TOO_SMALL"
    made.members.refused.clear()
    await made.cancel()


async def test_without_a_revocation_list_nobody_is_left_out(bench):
    made = await full(await bench())
    made.members.refused["bank-b"] = "REVOCATION_LIST_STALE"
    assert await code(made.open()) == "REVOCATION_LIST_STALE"
    assert not (await made.get()).excluded


class Strict(FakeTrustee):
    """A trustee that does not accept one client any more."""

    async def partially_decrypt(self, opening, holder):
        if any(each.client == "bank-d" for each in opening.manifest):
            raise ProtocolViolationError("CONTRIBUTOR_EXPIRED", "too old", culprit="bank-d")
        return await super().partially_decrypt(opening, holder)


async def test_members_that_trustees_do_not_accept_are_left_out_and_named(bench):
    made = await full(await bench())
    await made.contribute("bank-d")
    for name, trustee in made.desk.trustees.items():
        made.desk.trustees[name] = Strict(trustee.mode)  # type: ignore[index]
    await made.open()
    sum_ = await made.ended()
    assert list(sum_.totals) == totals()
    assert [(each.client, each.reason) for each in sum_.excluded] == [
        ("bank-d", "CONTRIBUTOR_EXPIRED")
    ]


@pytest.mark.parametrize("conduct", ["down", pytest.param("lies", marks=pytest.mark.slow)])
async def test_one_bad_trustee_stops_nothing(bench, conduct):
    made = await full(await bench({1: conduct}))
    await made.open()
    sum_ = await made.ended()
    assert list(sum_.totals) == totals()
    said = {each.trustee: bool(each.reason) for each in sum_.trustees}
    assert said == {TRUSTEES[1]: True, TRUSTEES[2]: False, TRUSTEES[3]: False}


async def test_trustees_that_refuse_end_the_sum_with_their_reason(bench):
    made = await full(await bench({1: "refuses", 2: "refuses"}))
    await made.open()
    sum_ = await made.ended()
    assert (sum_.state, sum_.reason) == (FAILED, "SUM_NOT_OPENED")
    assert "ALREADY_OPENED" in sum_.detail


async def test_a_restart_goes_on_with_contributions_and_the_same_request(bench):
    time = SystemClock()
    first = await full(await bench(time=time), BANKS[:2])
    members = first.members
    await first.close()
    second = await bench({2: "down", 3: "down"}, time, members=members)
    assert (await second.get()).contributions == 2
    await second.contribute("bank-c")
    await second.open()
    async with asyncio.timeout(60):
        await second.desk.trustees[TRUSTEES[2]].asked_twice.wait()
    await second.close()
    third = await bench({1: "down"}, time, members=members)
    sum_ = await third.ended()
    assert list(sum_.totals) == totals()
    assert third.desk.trustees[TRUSTEES[1]].asked == []  # what it has answered lies on the disk
    assert third.desk.trustees[TRUSTEES[2]].asked == second.desk.trustees[TRUSTEES[1]].asked


async def test_a_contribution_cut_off_before_its_commit_is_made_again(bench, monkeypatch):
    first = await bench()
    await first.create()

    def crash(*arguments):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(store, "add_contribution", crash)
        with pytest.raises(RuntimeError):
            await first.contribute("bank-a")
    members = first.members
    await first.close()
    second = await bench(members=members)
    for bank in BANKS:
        await second.contribute(bank)
    await second.open()
    assert list((await second.ended()).totals) == totals()


async def test_a_cancelled_sum_gives_nothing_and_keeps_nothing(bench):
    made = await full(await bench())
    assert (await made.cancel()).state == sums_pb2.SUM_STATE_CANCELLED
    assert not made.blobs.sum_folder(NAME).exists()
    assert await code(made.open()) == "SUM_ENDED"
    assert await code(made.cancel()) == "SUM_ENDED"
    assert await code(made.contribute("bank-d")) == "SUM_NOT_COLLECTING"


async def test_only_the_creator_and_operators_open_and_cancel(bench):
    made = await bench()
    await made.create("client/bank-a")
    for bank in BANKS:
        await made.contribute(bank)
    for stranger in ("client/bank-b", "viewer/eve"):
        assert await code(made.open(stranger)) == "SUM_OF_ANOTHER"
        assert await code(made.cancel(stranger)) == "SUM_OF_ANOTHER"
    await made.open("client/bank-a")
    assert (await made.ended()).state == OPENED


async def test_a_watcher_hears_of_each_state_and_of_the_end(bench):
    made = await full(await bench())
    watching = made.service.WatchSum(sums_pb2.WatchSumRequest(name=NAME), None)
    assert (await anext(watching)).sum.state == sums_pb2.SUM_STATE_COLLECTING
    await made.open()
    async with asyncio.timeout(60):
        states = [response.sum.state async for response in watching]
    assert states[-1] == OPENED


PEOPLE = {Role.VIEWER, Role.OPERATOR, Role.OFFICER}
ROLES = {
    "CreateSum": {Role.CLIENT, Role.OPERATOR, Role.OFFICER},
    "GetSum": PEOPLE | {Role.CLIENT},
    "ListSums": PEOPLE | {Role.CLIENT},
    "WatchSum": PEOPLE | {Role.CLIENT},
    "Contribute": {Role.CLIENT},
    "OpenSum": {Role.CLIENT, Role.OPERATOR, Role.OFFICER},
    "CancelSum": {Role.CLIENT, Role.OPERATOR, Role.OFFICER},
}


def test_each_method_is_for_those_that_are_named():
    prefix = "/finsecure.aggregation.v1.AuditedSumService/"
    found = {
        name.removeprefix(prefix): set(roles)
        for name, roles in POLICY.items()
        if name.startswith(prefix)
    }
    assert found == ROLES


async def test_members_keep_to_their_federation(bench):
    made = await bench()
    other = NAME.replace("lending", "other")
    assert await code(made.create(name=other)) == "FEDERATION_NOT_FOUND"
    assert await code(made.call("GetSum", sums_pb2.GetSumRequest(name=NAME))) == "SUM_NOT_FOUND"


async def test_what_a_kill_left_of_an_ended_sum_is_deleted_at_the_next_start(bench):
    first = await full(await bench())
    kept = first.blobs.sum_folder(NAME)
    ended = first.blobs.write_contribution(NAME + "-old", "bank-a", bytes(32), b"left over")
    members = first.members
    await first.close()
    second = await bench(members=members)
    assert not ended.exists()
    assert len(list(kept.iterdir())) == 3
    await second.open()
    assert list((await second.ended()).totals) == totals()


async def test_a_sum_whose_key_is_gone_fails_with_the_reason(bench, monkeypatch):
    made = await full(await bench())

    async def gone(self, name):
        raise NotFoundError("ENCRYPTION_KEY_NOT_FOUND", "no such key")

    monkeypatch.setattr(type(made.desk.keys), "key", gone)
    await made.open()
    sum_ = await made.ended()
    assert (sum_.state, sum_.reason) == (FAILED, "ENCRYPTION_KEY_NOT_FOUND")
