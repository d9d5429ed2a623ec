"""A key service for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.keyservice_deployment import Deployment, deployed
from tests.support.postgresql import database_of, needs_postgresql


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=(needs_postgresql, pytest.mark.slow))]
)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database of each kind."""
    return database_of(request.param, tmp_path)


@pytest.fixture
async def keyservice(tmp_path: Path, database: str) -> AsyncIterator[Deployment]:
    limits = {"enrolment_calls_per_s": 1000, "member_calls_per_s": 10_000}
    async with deployed(tmp_path, limits=limits, database=database) as deployment:
        yield deployment
