"""The layout of the aggregator's database is noted, and one of another release is left alone."""

import pytest
from finsecure_aggregator import schema
from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc.database import open_database
from sqlalchemy import inspect


@pytest.fixture
def database():
    opened = open_database("sqlite://")
    yield opened
    opened.close()


def refused(database):
    with pytest.raises(ConfigurationError) as caught:
        database.run_sync(schema.prepare)
    return caught.value.code


def test_an_empty_database_is_laid_out_once(database):
    for _ in range(2):
        database.run_sync(schema.prepare)
    assert set(inspect(database.engine).get_table_names()) == set(schema.metadata.tables)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE aggregator_settings SET value = '99'", "DELETE FROM aggregator_settings"],
)
def test_a_database_of_another_release_is_left_alone(database, statement):
    database.run_sync(schema.prepare)
    database.run_sync(lambda connection: connection.exec_driver_sql(statement))
    assert refused(database) == "DATABASE_LAYOUT"


def test_a_database_from_before_layouts_were_noted_is_left_alone(database):
    database.run_sync(schema.tasks.create)
    assert refused(database) == "DATABASE_LAYOUT"
    assert inspect(database.engine).get_table_names() == [schema.tasks.name]
