"""Killed at any point, a trustee loses nothing and never gives a second, different opening."""

import asyncio
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from finsecure_crypto.errors import StateError

from tests.support.crashing_trustee import POINTS, leave
from tests.support.federation import ROOT
from tests.support.pki import TestAuthority
from tests.support.trustees import CALLER, CLIENTS, RULES, Federation, key, make_trustee

SUBJECT = "federations/lending/tasks/scoring/rounds/3"


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_trustee_has_either_opened_or_not(tmp_path: Path, point: str) -> None:
    federation = Federation(TestAuthority())
    bank = federation.sum()
    before = make_trustee(tmp_path, federation.pki, 1)
    before.hold()
    before.database.close()
    leave(tmp_path, federation.pki, bank)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.support.crashing_trustee", str(tmp_path), point],
        cwd=ROOT,
        timeout=100,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    trustee = make_trustee(tmp_path, federation.pki, 1)
    try:
        opened = await trustee.openings.answered(CALLER, bank.request)
        assert (opened is not None) == POINTS[point]
        assert trustee.verdicts(SUBJECT) == ([("OPENED", None)] if POINTS[point] else [])
        # Whatever happened, the same request gets one answer and another one none.
        partial = await trustee.open(bank)
        assert opened is None or opened.partial == partial
        key().verify_partial(bank.total, 1, partial, bank.request.digest())
        trustee.rules = replace(RULES, minimum_round_cohort=2)
        with pytest.raises(StateError) as caught:
            await trustee.open(federation.sum(CLIENTS[:2]))
        assert caught.value.code == "SUBJECT_OPENED"
        assert await trustee.open(bank) == partial
    finally:
        trustee.database.close()
