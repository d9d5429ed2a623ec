from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finsecure_client.data import DataSource, load, scale
from finsecure_client.terms import NumericFeature
from finsecure_client.trainer import Standardisation
from finsecure_crypto.errors import FinSecureError

from tests.support.client import make_task, rows, write_csv

SCHEMA = make_task().schema


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_same_examples_from_every_format(tmp_path: Path, name: str) -> None:
    table = rows(100)
    write_csv(tmp_path / "reference.csv", table)
    path = tmp_path / name
    if name.endswith(".parquet"):
        columns = {head: [row[at] for row in table[1:]] for at, head in enumerate(table[0])}
        pq.write_table(pa.table(columns), path)
    else:
        write_csv(path, table)
    expected = load(DataSource(tmp_path / "reference.csv"), SCHEMA)
    found = load(DataSource(path), SCHEMA)
    assert np.array_equal(found.training.inputs, expected.training.inputs)
    assert np.array_equal(found.validation.labels, expected.validation.labels)
    assert len(found.training) == 80
    assert len(found.validation) == 20


def test_inputs_are_scaled_and_one_hot(tmp_path: Path) -> None:
    table = [
        ["class", "income", "grade", "amount"],
        ["bad", 0, "A", -5],
        ["good", 1e6, "B", 50],
        ["bad", 2e6, "Z", 100],
        ["good", 999, "", 250],
    ]
    source = DataSource(
        write_csv(tmp_path / "t.csv", table), validation_fraction=0.25, minimum_examples=2
    )
    split = load(source, SCHEMA)
    found = np.concatenate([split.training.inputs, split.validation.inputs])
    labels = np.concatenate([split.training.labels, split.validation.labels])
    order = np.argsort(found[:, 0] * 10 + found[:, 3])
    logarithm = np.log1p(999) / np.log1p(1e6)
    assert found[order].tolist() == pytest.approx(
        np.array(
            [[0, 1, 0, 0], [0.5, 0, 1, 1], [1, 0, 0, logarithm], [1, 0, 0, 1]], dtype=np.float32
        )
    )
    assert labels[order].tolist() == [True, False, False, True]
    assert split.training.numeric == (0, 3)


def test_scale_keeps_to_the_bounds() -> None:
    feature = NumericFeature("x", -1, 3)
    assert scale(np.array([-9.0, -1, 1, 3, 9]), feature).tolist() == [0, 0, 0.5, 1, 1]


def test_standardised_moves_numbers_only(tmp_path: Path) -> None:
    split = load(DataSource(write_csv(tmp_path / "t.csv", rows())), SCHEMA)
    given = Standardisation(np.array([0.5, 0.25], np.float32), np.array([2, 4], np.float32))
    moved = split.training.standardised(given)
    assert np.allclose(moved.inputs[:, 0], (split.training.inputs[:, 0] - 0.5) / 2)
    assert np.allclose(moved.inputs[:, 3], (split.training.inputs[:, 3] - 0.25) / 4)
    assert np.array_equal(moved.inputs[:, 1:3], split.training.inputs[:, 1:3])
    assert split.training.standardised(None) is split.training


def test_split_follows_the_seed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", rows())
    first = load(DataSource(path, seed=1), SCHEMA).validation.inputs
    assert np.array_equal(first, load(DataSource(path, seed=1), SCHEMA).validation.inputs)
    assert not np.array_equal(first, load(DataSource(path, seed=2), SCHEMA).validation.inputs)


def _spoil(column: int, value: object, row: int = 7) -> list[list[object]]:
    table = rows()
    table[row][column] = value
    return table


def _without(column: str) -> list[list[object]]:
    table = rows()
    at = table[0].index(column)
    return [row[:at] + row[at + 1 :] for row in table]


@pytest.mark.parametrize(
    ("table", "code", "hint"),
    [
        (_without("income"), "COLUMN_MISSING", "'income'"),
        (_without("class"), "LABEL_ABSENT", "'class'"),
        (_spoil(1, "secret-word"), "VALUE_NOT_NUMERIC", "row 7"),
        (_spoil(1, ""), "VALUE_MISSING", "row 7"),
        (_spoil(3, "nan"), "VALUE_NOT_FINITE", "row 7"),
        (_spoil(3, "inf"), "VALUE_NOT_FINITE", "row 7"),
        (rows()[:1], "DATA_EMPTY", "no rows"),
        ([], "DATA_EMPTY", "header"),
        (rows(49), "TOO_FEW_EXAMPLES", "49"),
        (
            [[*row[:-1], "good" if at else "class"] for at, row in enumerate(rows())],
            "LABEL_SINGLE_CLASS",
            "'bad'",
        ),
        ([[*row, row[1]] for row in rows()], "COLUMN_MISSING", "more than one"),
        ([*rows(), ["too", "short"]], "DATA_FORMAT", "CSV"),
    ],
)
def test_bad_tables(tmp_path: Path, table: list[list[object]], code: str, hint: str) -> None:
    path = write_csv(tmp_path / "t.csv", table)
    with pytest.raises(FinSecureError) as caught:
        load(DataSource(path), SCHEMA)
    assert caught.value.code == code
    assert hint in str(caught.value)
    assert "secret-word" not in str(caught.value)  # a party's values are private


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("absent.csv", None, "DATA_MISSING"),
        ("absent.csv.gz", None, "DATA_MISSING"),
        ("absent.parquet", None, "DATA_MISSING"),
        ("t.xlsx", b"PK", "DATA_FORMAT"),
        ("t.parquet", b"no parquet", "DATA_FORMAT"),
        ("t.csv.gz", b"no gzip", "DATA_FORMAT"),
        ("t.csv.gz", b"\x1f\x8b\x08\x00", "DATA_FORMAT"),
        ("t.csv", b"\xff\xfe\x00,\n", "DATA_FORMAT"),
        ("t.csv", b"", "DATA_EMPTY"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes | None, code: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FinSecureError) as caught:
        load(DataSource(path), SCHEMA)
    assert caught.value.code == code


def test_single_class_can_be_allowed(tmp_path: Path) -> None:
    table = [[*row[:-1], "good" if at else "class"] for at, row in enumerate(rows())]
    source = DataSource(write_csv(tmp_path / "t.csv", table), single_class=True)
    assert not load(source, SCHEMA).training.labels.any()
