"""Commands that change what a running service works with: the pepper, the list's number."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from finsecure_crypto.errors import AuthenticationError
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.list_renumbering import renumber_list
from finsecure_keyservice.pepper_rotation import rotate_pepper
from finsecure_keyservice.schema import REVOCATION_LISTS
from finsecure_rpc.database import open_database
from finsecure_rpc.enrolment import enrol
from sqlalchemy import select

from tests.support.keyservice_deployment import BANK, LENDING, deployed


async def test_a_new_pepper_voids_unused_api_keys_and_is_used_at_once(tmp_path: Path) -> None:
    async with deployed(tmp_path) as keyservice:
        unused = await keyservice.create(BANK)
        before = (tmp_path / "state" / "api-key.pepper").read_bytes()
        assert rotate_pepper(keyservice.configuration, keyservice.clock()) == (1, 0)
        assert (tmp_path / "state" / "api-key.pepper").read_bytes() != before
        with pytest.raises(AuthenticationError, match="API_KEY_REJECTED"):
            await keyservice.enrol("bank-1", unused)
        # Issued by the service that was running all the time, and still good after a restart.
        fresh = await keyservice.create(f"{LENDING}/clients/bank-2")
        await keyservice.stop()
        await keyservice.restart()
        await enrol(
            keyservice.enrol_address,
            keyservice.root_pem,
            SecretBytes(fresh.encode()),
            tmp_path / "bank-2",
        )


async def test_a_renumbered_list_is_above_every_number_that_was_used(tmp_path: Path) -> None:
    async with deployed(tmp_path) as keyservice:
        now = keyservice.clock()
        assert renumber_list(keyservice.configuration, now) == int(now.timestamp())
        assert renumber_list(keyservice.configuration, now) == int(now.timestamp()) + 1
        later = now + timedelta(hours=1)
        assert renumber_list(keyservice.configuration, later, above=5) == int(later.timestamp())
        # A history of more than one list a second has outrun the time.
        above = int(later.timestamp()) + 10**6
        assert renumber_list(keyservice.configuration, later, above=above) == above + 1
        database = open_database(keyservice.configuration.database)
        (der,) = database.run_sync(
            lambda connection: list(connection.scalars(select(REVOCATION_LISTS.c.der)))
        )
        database.close()
        number = x509.load_der_x509_crl(der).extensions.get_extension_for_class(x509.CRLNumber)
        assert number.value.crl_number == above + 1
