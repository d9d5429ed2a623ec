"""The party's own table, read strictly by the task's feature schema.

CSV (also gzipped) and Parquet. A value is never guessed: what does not fit the schema is an error
that names column and row but not the value, which is private.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError
from numpy.typing import NDArray

from finsecure_client.terms import FeatureSchema, NumericFeature
from finsecure_client.trainer import Standardisation

CSV_SUFFIXES = (".csv", ".csv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class DataSource:
    """Where the party's table lies and how it is split.

    Attributes:
        path: a .csv, .csv.gz or .parquet file with a header.
        validation_fraction: share of the rows kept for evaluation, in (0, 1).
        seed: seed of the split; the same seed and file give the same split.
        minimum_examples: a smaller table is refused.
        single_class: whether a table with only positive or only negative rows is accepted.
    """

    path: Path
    validation_fraction: float = 0.2
    seed: int = 0
    minimum_examples: int = 50
    single_class: bool = False


@dataclass(frozen=True)
class Examples:
    """Rows as model inputs.

    Attributes:
        inputs: float32, shape (rows, schema.width); numeric features scaled to [0, 1].
        labels: bool, shape (rows,).
        numeric: positions of the numeric features among the inputs.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.bool_]
    numeric: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def standardised(self, standardisation: Standardisation | None) -> "Examples":
        """Return the rows with numeric features shifted by the mean and divided by the scale."""
        if standardisation is None:
            return self
        inputs = self.inputs.copy()
        chosen = list(self.numeric)
        inputs[:, chosen] = (inputs[:, chosen] - standardisation.mean) / standardisation.scale
        return Examples(inputs, self.labels, self.numeric)


@dataclass(frozen=True)
class Split:
    """The party's examples, for training and for evaluation."""

    training: Examples
    validation: Examples


def load(source: DataSource, schema: FeatureSchema) -> Split:
    """Read the table and split it.

    Raises:
        ConfigurationError: DATA_MISSING, DATA_FORMAT; the owner of the configuration's fault.
        InvalidArgumentError: DATA_EMPTY, COLUMN_MISSING, LABEL_ABSENT, VALUE_MISSING,
            VALUE_NOT_NUMERIC, VALUE_NOT_FINITE, LABEL_SINGLE_CLASS, TOO_FEW_EXAMPLES; the
            table's owner's fault.
    """
    table = _read(source.path, schema)
    rows = table.num_rows
    if rows == 0:
        raise InvalidArgumentError("DATA_EMPTY", f"{source.path} has a header but no rows")
    validation = max(1, round(rows * source.validation_fraction))
    if rows < source.minimum_examples or validation >= rows:
        raise InvalidArgumentError(
            "TOO_FEW_EXAMPLES",
            f"{source.path} has {rows} rows; at least {max(source.minimum_examples, 2)} are needed "
            "(minimum_examples and validation_fraction in [data])",
        )
    labels = np.asarray(_text(table, schema.label) == schema.positive_value)
    if not source.single_class and labels.all() == labels.any():
        raise InvalidArgumentError(
            "LABEL_SINGLE_CLASS",
            f"column {schema.label!r} of {source.path} holds only one class; compare its values "
            f"with the task's positive value {schema.positive_value!r}, or set single_class = true "
            "in [data] if that is how your data is",
        )
    inputs = np.empty((rows, schema.width), dtype=np.float32)
    at = 0
    for feature in schema.features:
        if isinstance(feature, NumericFeature):
            inputs[:, at] = scale(_numbers(table, feature.column), feature)
            at += 1
        else:
            column = _text(table, feature.column)
            for value in feature.values:
                inputs[:, at] = column == value
                at += 1
    order = np.random.default_rng(source.seed).permutation(rows)
    return Split(
        training=_rows(inputs, labels, schema, order[validation:]),
        validation=_rows(inputs, labels, schema, order[:validation]),
    )


def scale(values: NDArray[np.float64], feature: NumericFeature) -> NDArray[np.float64]:
    """Move numbers into the feature's bounds, take the logarithm if asked, scale to [0, 1]."""
    shifted = np.clip(values, feature.minimum, feature.maximum) - feature.minimum
    span = feature.maximum - feature.minimum
    if feature.logarithmic:
        return np.asarray(np.log1p(shifted) / np.log1p(span))
    return np.asarray(shifted / span)


def _rows(
    inputs: NDArray[np.float32],
    labels: NDArray[np.bool_],
    schema: FeatureSchema,
    chosen: NDArray[np.int64],
) -> Examples:
    return Examples(inputs[chosen], labels[chosen], schema.numeric_inputs)


def _read(path: Path, schema: FeatureSchema) -> pa.Table:
    """Read the schema's columns; those of a CSV file as text, so that nothing is inferred."""
    name = path.name.lower()
    if not name.endswith(CSV_SUFFIXES + PARQUET_SUFFIXES):
        raise ConfigurationError(
            "DATA_FORMAT",
            f"{path} is neither .csv, .csv.gz nor .parquet; convert it, or correct path in [data]",
        )
    wanted = [feature.column for feature in schema.features]
    try:
        if name.endswith(CSV_SUFFIXES):
            present = _csv_header(path)
        else:
            present = pyarrow.parquet.read_schema(path).names
        _check_columns(path, present, wanted, schema.label)
        columns = list(dict.fromkeys([*wanted, schema.label]))
        if name.endswith(PARQUET_SUFFIXES):
            return pyarrow.parquet.read_table(path, columns=columns)
        return pyarrow.csv.read_csv(
            path,
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
            ),
        )
    except FileNotFoundError:
        raise ConfigurationError(
            "DATA_MISSING", f"{path} does not exist; correct path in [data]"
        ) from None
    except (OSError, pa.ArrowException, UnicodeDecodeError, EOFError) as error:
        # Arrow's messages quote the line that they stumble over, which is private.
        raise ConfigurationError(
            "DATA_FORMAT",
            f"{path} cannot be read as {'CSV' if name.endswith(CSV_SUFFIXES) else 'Parquet'} "
            f"({type(error).__name__}); check that it is whole and readable",
        ) from None


def _csv_header(path: Path) -> list[str]:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as stream:
        # One line of bounded length: a file without line ends must not fill the memory.
        header = stream.readline(1 << 20)
    if not header.strip():
        raise InvalidArgumentError("DATA_EMPTY", f"{path} is empty; it needs a header and rows")
    return list(pyarrow.csv.read_csv(pa.BufferReader(header.rstrip(b"\r\n") + b"\n")).column_names)


def _check_columns(path: Path, present: list[str], wanted: list[str], label: str) -> None:
    if label not in present:
        raise InvalidArgumentError(
            "LABEL_ABSENT", f"{path} has no column {label!r}, which holds the outcome"
        )
    missing = [column for column in wanted if column not in present]
    if missing:
        raise InvalidArgumentError(
            "COLUMN_MISSING",
            f"{path} lacks {', '.join(map(repr, missing[:10]))}; the task's schema needs "
            f"{'this column' if len(missing) == 1 else f'these {len(missing)} columns'}",
        )
    repeated = sorted({column for column in [*wanted, label] if present.count(column) > 1})
    if repeated:
        raise InvalidArgumentError(
            "COLUMN_MISSING", f"{path} has more than one column {repeated[0]!r}; rename one"
        )


def _text(table: pa.Table, column: str) -> NDArray[np.object_]:
    """Return a column as strings; a missing label or category is an error only for labels."""
    values = table.column(column)
    try:
        values = pc.cast(values, pa.string())
    except pa.ArrowException:
        raise InvalidArgumentError(
            "DATA_FORMAT", f"column {column!r} of type {values.type} is not text"
        ) from None
    return np.asarray(pc.fill_null(values, "").to_pylist(), dtype=object)


def _numbers(table: pa.Table, column: str) -> NDArray[np.float64]:
    values = table.column(column)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = pc.utf8_trim_whitespace(values)
        values = pc.if_else(pc.equal(values, ""), pa.scalar(None, values.type), values)
    if values.null_count:
        row = values.is_null().index(True).as_py()
        raise InvalidArgumentError(
            "VALUE_MISSING",
            f"column {column!r} has {values.null_count} empty cells, the first in row {row + 1}; "
            "fill them, or leave the rows out",
        )
    try:
        numbers = pc.cast(values, pa.float64(), safe=False).to_numpy()
    except pa.ArrowException:
        row = _first_non_numeric(values)
        raise InvalidArgumentError(
            "VALUE_NOT_NUMERIC", f"column {column!r} holds no number in row {row}"
        ) from None
    finite = np.isfinite(numbers)
    if not finite.all():
        row = int(np.argmin(finite)) + 1
        raise InvalidArgumentError(
            "VALUE_NOT_FINITE", f"column {column!r} holds NaN or infinity in row {row}"
        )
    return np.asarray(numbers, dtype=np.float64)


def _first_non_numeric(values: pa.ChunkedArray) -> int:
    """Return the number of the first row that is no number, from 1."""
    for row, value in enumerate(values, start=1):
        try:
            pc.cast(value, pa.float64(), safe=False)
        except pa.ArrowException:
            return row
    return 1  # unreachable when the whole column failed, except for types that never cast
