"""A key service for the trustees of each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.keyservice_deployment import Deployment, deployed


@pytest.fixture
async def keyservice(tmp_path: Path) -> AsyncIterator[Deployment]:
    limits = {"enrolment_calls_per_s": 1000, "member_calls_per_s": 10_000}
    async with deployed(tmp_path, limits=limits) as deployment:
        yield deployment
