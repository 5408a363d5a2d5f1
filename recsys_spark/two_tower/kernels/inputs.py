"""Input encoding of a tower of the two-tower model: a row of features as dense numbers, hashed values, a hashed id.

Owns: the declaration of a tower's inputs, the check of columns against it, and the dense part.  Training and embedding
encode batches, the reader one row.

A row's encoding depends on nothing but the row: it has the same bits in any batch, sliced, chunked or
dictionary-encoded.  Hashes are the same on every machine; a dense value differs in its last bit where log1p does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.errors import ContractError, DamagedError, KernelError
from recsys_spark.numeric.hashing import Bag, category_bag, hashed_ids, joined, shares_bag, values_bag, words_bag

Kind = Literal["number", "category", "words", "values", "shares", "vector", "id"]

# Tomorrow's outlier, far outside what the deviation was measured on, must not drown the other inputs.
MAX_STANDARD = 8.0

_VECTOR_BLOCK = 2**18  # values of vectors that are doubles at one time, 2 MB

# What a column of each kind is read as.
_TYPES: Mapping[str, pa.DataType] = MappingProxyType(
    {
        "number": pa.float64(),
        "category": pa.string(),
        "words": pa.string(),
        "values": pa.list_(pa.string()),
        "shares": pa.list_(pa.struct([("category", pa.string()), ("share", pa.float32())])),
        "vector": pa.list_(pa.float64()),
        "id": pa.string(),
    }
)
_BAGS: Mapping[str, Callable[[str, pa.Array, int], Bag]] = MappingProxyType(
    {"category": category_bag, "words": words_bag, "values": values_bag, "shares": shares_bag}
)


@dataclass(frozen=True)
class Field:
    """One input of a tower.

    name: column of the table that is encoded.  width: length of a vector, 0 for other kinds.
    mean, deviation: of the squashed values of a number that are not null; the deviation of a constant is given as 1.
    engaged: a number that comes from engagement, as the id's weights do; a training step that drops an item's id drops
    it too, so that the model learns to place items without either.
    """

    name: str
    kind: Kind
    width: int = 0
    mean: float = 0.0
    deviation: float = 1.0
    engaged: bool = False

    @property
    def n_dense(self) -> int:
        """Dense columns that it fills."""
        return 2 if self.kind == "number" else self.width


class Encoded(NamedTuple):
    """Encoded rows.

    dense: float32 (n, width), in the order of the fields: of a number its standardized squashed value, 0 if it is null,
    and 1 if it is null, else 0; of a vector its values at length 1, zeros if it is null or all zeros.
    indptr: int64 (n + 1,).  buckets: int32.  weights: float32.  One bag of hashed values a row, in the order of the
    fields.
    ids: int32 (n,); empty (0,) if no field is an id.
    """

    dense: np.ndarray
    indptr: np.ndarray
    buckets: np.ndarray
    weights: np.ndarray
    ids: np.ndarray


Inputs = Sequence[tuple[Field, pa.Array]]


@dataclass(frozen=True)
class TowerInputs:
    """The declared inputs of one tower.

    n_buckets: rows of the table of hashed values.  n_ids: rows of the table of hashed ids; 0: no field is an id.
    Raises KernelError if the declaration does not hold together.
    """

    fields: tuple[Field, ...]
    n_buckets: int
    n_ids: int = 0

    def __post_init__(self) -> None:
        faults = _declaration_faults(self)
        if faults:
            raise KernelError(f"tower inputs: {'; '.join(faults)}; correct what declares the inputs")

    @property
    def width(self) -> int:
        """Columns of `dense`."""
        return sum(field.n_dense for field in self.fields)

    @property
    def engaged_columns(self) -> np.ndarray:
        """Columns of `dense` that hold an engaged number, each followed by the one that says that it is null."""
        ends = np.cumsum([field.n_dense for field in self.fields])
        return np.array([end - 2 for end, field in zip(ends, self.fields, strict=True) if field.engaged], np.int64)

    def encode(self, table: pa.Table | pa.RecordBatch) -> Encoded:
        """The rows of `table` in their order; columns that no field names are not read.

        NaN and infinities count as null, so does a vector that holds one or a null; blank text is none.
        Raises ContractError with every column that is missing or does not fit its field.
        """
        inputs = _checked(table, self.fields)
        bags = [_BAGS[field.kind](field.name, array, self.n_buckets) for field, array in inputs if field.kind in _BAGS]
        ids = [hashed_ids(field.name, array, self.n_ids) for field, array in inputs if field.kind == "id"]
        return Encoded(
            _dense(inputs, table.num_rows, self.width),
            *joined(bags, table.num_rows),
            ids[0] if ids else np.empty(0, np.int32),
        )

    def as_json(self) -> dict[str, Any]:
        """What the card of a model keeps; `from_json` gives the same inputs."""
        return {"fields": [asdict(field) for field in self.fields], "n_buckets": self.n_buckets, "n_ids": self.n_ids}

    @classmethod
    def from_json(cls, card: Mapping[str, Any]) -> "TowerInputs":
        """The inputs that the card of a model keeps; raises DamagedError if it keeps none."""
        try:
            return cls(tuple(Field(**field) for field in card["fields"]), card["n_buckets"], card["n_ids"])
        except (KeyError, TypeError, KernelError) as err:
            raise DamagedError(
                f"tower inputs: expected what the card of a model keeps, got {type(err).__name__}: {err}; "
                "train the model again"
            ) from err


def squash(values: np.ndarray) -> np.ndarray:
    """sign(x) * log1p(|x|) of every x, float64.  In Spark SQL: `signum(x) * log1p(abs(x))`."""
    squashed: np.ndarray = np.copysign(np.log1p(np.abs(values)), values)
    return squashed


def _declaration_faults(inputs: TowerInputs) -> list[str]:
    faults = []
    for field in inputs.fields:
        if field.kind not in _TYPES:
            faults.append(f"{field.name} kind: expected one of {', '.join(_TYPES)}, got {field.kind!r}")
        if (field.width > 0) != (field.kind == "vector") or field.width < 0:
            faults.append(f"{field.name} width: expected >= 1 for a vector, 0 for others, got {field.width}")
        if not (np.isfinite(field.mean) and 0 < field.deviation < np.inf):
            faults.append(f"{field.name}: expected finite mean, deviation > 0, got {field.mean}, {field.deviation}")
        if field.engaged and field.kind != "number":
            faults.append(f"{field.name}: expected a number that is engaged, got {field.kind}")
    keys = [(field.name, field.kind) for field in inputs.fields]
    if len(set(keys)) < len(keys):
        faults.append(f"fields: expected each once, got {max(keys, key=keys.count)} again")
    n_id_fields = sum(field.kind == "id" for field in inputs.fields)
    if n_id_fields != (inputs.n_ids > 0) or not 0 <= inputs.n_ids <= 2**31:
        faults.append(f"n_ids: expected 1 to 2**31 with one id, 0 without, got {inputs.n_ids} with {n_id_fields}")
    least = int(any(field.kind in _BAGS for field in inputs.fields))
    if not least <= inputs.n_buckets <= 2**31:
        faults.append(f"n_buckets: expected 1 to 2**31, or 0 if no value is hashed, got {inputs.n_buckets}")
    return faults


def _checked(table: pa.Table | pa.RecordBatch, fields: Sequence[Field]) -> Inputs:
    """Every field with its column in one piece, as the type of its kind; raises ContractError."""
    inputs, faults = [], []
    for field in fields:
        index = table.schema.get_field_index(field.name)
        if index < 0:
            faults.append(f"{field.name}: expected one such column, got {table.schema.names.count(field.name)}")
            continue
        column = table.column(index)
        if not _fits(_TYPES[field.kind], column.type):
            faults.append(f"{field.name}: expected {field.kind} as {_TYPES[field.kind]}, got {column.type}")
            continue
        array = _plain(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column, field.kind)
        inputs.append((field, array))
        if field.kind == "vector":
            widths = pc.list_value_length(array).drop_null().to_numpy(zero_copy_only=False)
            wrong = widths[widths != field.width]
            faults += [f"{field.name}: expected vectors of {field.width}, got one of {width}" for width in wrong[:1]]
    if faults:
        raise ContractError(
            f"tower inputs {'; '.join(faults)}; give the columns that the model was trained on, or train it on these"
        )
    return inputs


def _fits(wanted: pa.DataType, got: pa.DataType) -> bool:
    """Whether a column of type `got` may be read as `wanted`; a cast allows more: times as numbers, text as numbers."""
    types = pa.types
    if types.is_dictionary(got):
        return _fits(wanted, got.value_type)
    if types.is_list(wanted) and not types.is_null(got):
        is_list = types.is_list(got) or types.is_large_list(got) or types.is_fixed_size_list(got)
        return is_list and _fits(wanted.value_type, got.value_type)
    if types.is_struct(wanted) and not types.is_null(got):
        return types.is_struct(got) and all(
            got.get_field_index(field.name) >= 0 and _fits(field.type, got.field(field.name).type) for field in wanted
        )
    if types.is_null(got) or types.is_boolean(got) or types.is_integer(got):
        return True
    if types.is_floating(wanted):
        return bool(types.is_floating(got) or types.is_decimal(got))
    return bool(types.is_string(got) or types.is_large_string(got) or types.is_string_view(got))


def _plain(array: pa.Array, kind: Kind) -> pa.Array:
    """`array` as the type of `kind`; vectors stay floats, a copy of them as doubles would be large."""
    if array.type == _TYPES[kind]:  # a cast to the same type takes ten times as long as this
        return array
    if kind == "vector" and not pa.types.is_null(array.type) and array.type.value_type in (pa.float32(), pa.float64()):
        return array
    return array.cast(_TYPES[kind], safe=False)


def _dense(inputs: Inputs, n_rows: int, width: int) -> np.ndarray:
    dense = np.zeros((n_rows, width), np.float32)
    numbers: list[tuple[Field, pa.Array]] = []
    places: list[int] = []
    start = 0
    for field, array in inputs:
        if field.kind == "number":
            numbers.append((field, array))
            places.append(start)
        elif field.kind == "vector":
            _put_vectors(array, dense[:, start : start + field.width])
        start += field.n_dense
    # All numbers at once: for one row the calls are what costs.
    values = np.empty((n_rows, len(numbers)))
    for column, (_, array) in enumerate(numbers):
        values[:, column] = array.to_numpy(zero_copy_only=False)  # null: NaN
    known = np.isfinite(values)
    means = np.array([field.mean for field, _ in numbers])
    deviations = np.array([field.deviation for field, _ in numbers])
    standard = (squash(np.where(known, values, 0.0)) - means) / deviations  # (n, numbers)
    columns = np.array(places, np.intp)
    dense[:, columns] = np.where(known, standard.clip(-MAX_STANDARD, MAX_STANDARD), 0.0)
    dense[:, columns + 1] = ~known
    return dense


def _put_vectors(array: pa.Array, out: np.ndarray) -> None:
    """Writes every vector at length 1 to its row of `out`, (n, width) zeros."""
    width = out.shape[1]
    flat = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)  # (vectors, width), null: NaN
    rows = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    n_block = max(1, _VECTOR_BLOCK // width)
    for start in range(0, len(rows), n_block):
        block = flat[start : start + n_block].astype(np.float64)
        largest = np.abs(block).max(axis=1)
        usable = np.isfinite(largest) & (largest > 0)
        block = block[usable] / largest[usable, None]  # so that no square is too large or too small
        norms = np.sqrt((block * block).sum(axis=1))
        out[rows[start : start + n_block][usable]] = block / norms[:, None]
