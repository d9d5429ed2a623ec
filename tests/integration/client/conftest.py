from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.client_federation import Federation, running_federation


@pytest.fixture
async def federation(tmp_path: Path) -> AsyncIterator[Federation]:
    async with running_federation(tmp_path) as running:
        yield running
