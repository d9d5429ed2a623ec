"""A federation of three banks and one trustee that holds its share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pki import TestAuthority
from tests.support.trustees import Federation, Trustee, make_trustee


@pytest.fixture(scope="session")
def federation() -> Federation:
    return Federation(TestAuthority())


@pytest.fixture
def trustee(federation: Federation, tmp_path: Path) -> Iterator[Trustee]:
    made = make_trustee(tmp_path / "trustee-1", federation.pki, 1)
    made.hold()
    yield made
    made.database.close()
