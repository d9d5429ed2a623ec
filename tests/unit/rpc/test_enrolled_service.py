"""A service starts only as the member that its configuration means."""

import pytest
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc.enrolled_service import EnrolledServiceSettings, own_identities

from tests.support.pki import TestAuthority


@pytest.fixture
def settings(tmp_path):
    return EnrolledServiceSettings(
        federation="lending",
        identity_dir=tmp_path / "identity",
        root=tmp_path / "root.pem",
        keyservice="127.0.0.1:1",
        keyservice_enrol="127.0.0.1:2",
        listen="127.0.0.1:3",
        database="service.db",
    )


def test_the_own_role_in_the_own_federation_is_taken(settings):
    TestAuthority().enrol(settings.identity_dir, Role.TRUSTEE, "main")
    identities = own_identities(settings, Role.TRUSTEE)
    assert identities.current().spiffe_id.id == "main"


@pytest.mark.parametrize(
    ("role", "federation"), [(Role.AGGREGATOR, "lending"), (Role.TRUSTEE, "fraud")]
)
def test_another_role_or_federation_is_refused(settings, role, federation):
    TestAuthority().enrol(settings.identity_dir, role, "main", federation=federation)
    with pytest.raises(ConfigurationError) as failure:
        own_identities(settings, Role.TRUSTEE)
    assert failure.value.code == "IDENTITY_MISMATCH"


def test_without_an_identity_nothing_starts(settings):
    with pytest.raises(ConfigurationError) as failure:
        own_identities(settings, Role.TRUSTEE)
    assert failure.value.code == "IDENTITY_MISSING"
