"""A trustee's log has every decision, or the decision was not made; it shows what was put back."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from finsecure_crypto.errors import FinSecureError, IntegrityError, UnavailableError
from finsecure_crypto.log_export import ExportReader, verify_export
from finsecure_keyservice.audit import mirror as mirror_module
from finsecure_keyservice.audit.mirror import AuditMirror, started
from finsecure_keyservice.trustee.books import LOG

from tests.support.trustees import (
    CALLER,
    CLIENTS,
    KEY_NAME,
    OPERATOR,
    RULES,
    SUM,
    Federation,
    Trustee,
    make_trustee,
)

SUBJECT = "federations/lending/tasks/scoring/rounds/3"


async def copied(trustee: Trustee, copy: Path) -> AuditMirror:
    mirror = await started(trustee.books, trustee.log, copy)
    assert mirror is not None
    return mirror


def watched(trustee: Trustee, mirror: AuditMirror) -> Trustee:
    auditor = replace(trustee.books.auditor, admit=mirror.admit)
    return replace(trustee, books=replace(trustee.books, auditor=auditor))


async def test_what_was_opened_for_whom_is_in_the_log(
    federation: Federation, trustee: Trustee
) -> None:
    bank = federation.sum()
    partial = await trustee.open(bank)
    with pytest.raises(FinSecureError):
        await trustee.open(federation.sum(CLIENTS[:1]))
    opened, refused = trustee.events()
    opening = await trustee.openings.answered(CALLER, bank.request)
    assert opening is not None
    assert (opened.action, opened.subject, opened.caller) == ("sum.open", SUBJECT, CALLER.name)
    assert opened.details == {
        "key": KEY_NAME,
        "sha256": bank.request.digest().hex(),
        "contributions": 3,
        "total": bank.request.total_sha256.hex(),
        "partial": opening.sha256.hex(),
    }
    assert (refused.action, refused.subject) == ("call.refuse", SUBJECT)
    assert refused.details["reason"] == "COHORT_TOO_SMALL"
    # A lost answer is given again, and decides nothing.
    assert await trustee.open(bank) == partial
    assert len(trustee.events()) == 2
    reader = ExportReader()
    for entry in trustee.database.run_sync(lambda c: LOG.entries(c, 0, 10)):
        reader.take_event(entry.leaf)
    reader.take_note(trustee.database.run_sync(trustee.log.checkpoint).note)
    assert reader.finish().size == 3


async def test_a_key_that_signs_the_log_outlives_a_restart(trustee: Trustee) -> None:
    before = trustee.log_key
    assert before.origin == f"lending.{trustee.pki.domain}/trustee/trustee-1/audit"
    assert trustee.restarted().log_key == before


async def test_what_cannot_be_recorded_is_neither_opened_nor_kept(
    federation: Federation, trustee: Trustee, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = federation.sum()

    def full(*_: object, **__: object) -> NoReturn:
        raise UnavailableError("AUDIT_UNAVAILABLE", "no room")

    with monkeypatch.context() as broken:
        broken.setattr(type(LOG), "append", full)
        for refused_or_not in (bank, federation.sum(CLIENTS[:1])):
            with pytest.raises(UnavailableError, match="AUDIT_UNAVAILABLE"):
                await trustee.open(refused_or_not)
        with pytest.raises(UnavailableError, match="AUDIT_UNAVAILABLE"):
            await trustee.holdings.card(OPERATOR)
    assert await trustee.openings.answered(CALLER, bank.request) is None
    assert trustee.events() == []
    await trustee.open(bank)
    await trustee.holdings.card(OPERATOR)
    assert [event.action for event in trustee.events()] == ["sum.open", "sealing-key.make"]


async def test_a_caller_that_is_refused_over_and_over_fills_no_log(
    federation: Federation, trustee: Trustee
) -> None:
    small = federation.sum(CLIENTS[:1])
    openings = trustee.openings
    for _ in range(200):
        with pytest.raises(FinSecureError, match="COHORT_TOO_SMALL"):
            await openings.admit(CALLER, small.request, small.manifest)
    events = trustee.events()
    assert 60 <= len(events) < 200
    told = sum(int(event.details["unrecorded"]) for event in events)
    assert len(events) + told <= 200


async def test_a_database_that_was_put_back_is_caught_by_the_second_copy(
    federation: Federation, trustee: Trustee, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere.jsonl"
    database = trustee.folder / "trustee.db"
    await trustee.holdings.card(OPERATOR)
    trustee = trustee.restarted()
    snapshot = tmp_path / "snapshot.db"
    trustee.database.close()
    shutil.copy(database, snapshot)
    trustee = trustee.restarted()
    mirror = await copied(trustee, copy)
    await trustee.open(federation.sum())
    await mirror.stop()
    trustee.database.close()
    shutil.copy(snapshot, database)
    forgetful = trustee.restarted()
    with pytest.raises(IntegrityError, match="AUDIT_LOG_ROLLED_BACK"):
        await copied(forgetful, copy)
    # It would open the round again, for other clients; then its log is another one.
    forgetful.rules = replace(RULES, minimum_round_cohort=2)
    await forgetful.open(federation.sum(CLIENTS[:2]))
    with pytest.raises(IntegrityError, match="AUDIT_LOG_FORKED"):
        await copied(forgetful, copy)
    forgetful.database.close()


async def test_a_database_that_was_made_anew_is_caught_by_the_second_copy(
    federation: Federation, trustee: Trustee, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere.jsonl"
    await trustee.holdings.card(OPERATOR)
    await (await copied(trustee, copy)).stop()
    anew = make_trustee(tmp_path / "anew", trustee.pki, 1)
    with pytest.raises(IntegrityError, match="AUDIT_LOG_ROLLED_BACK"):
        await copied(anew, copy)
    for _ in range(3):  # it does not help to grow
        with pytest.raises(FinSecureError):
            await anew.open(federation.sum(CLIENTS[:1]))
    with pytest.raises(IntegrityError, match="AUDIT_LOG_FORKED"):
        await copied(anew, copy)
    anew.database.close()


async def test_while_the_second_copy_is_away_a_trustee_stops_deciding(
    federation: Federation, trustee: Trustee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "_POLL_S", 0.01)
    monkeypatch.setattr(mirror_module, "MOST_BEHIND", 1)
    copy = tmp_path / "elsewhere.jsonl"
    mirror = await copied(trustee, copy)
    trustee = watched(trustee, mirror)
    waiting = federation.sum(subject=SUM)

    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(mirror_module.LogFile, "append", full)
        await trustee.open(federation.sum())
        await trustee.holdings.card(OPERATOR)
        with pytest.raises(UnavailableError, match="AUDIT_MIRROR_BEHIND"):
            await trustee.open(waiting)
        assert await trustee.openings.answered(CALLER, waiting.request) is None
    async with asyncio.timeout(60):
        while True:
            try:
                await trustee.open(waiting)
                break
            except UnavailableError:
                await asyncio.sleep(0.01)
    await mirror.stop()
    lines = copy.read_bytes().splitlines()
    assert verify_export(lines, trustee.log_key).size == 4
