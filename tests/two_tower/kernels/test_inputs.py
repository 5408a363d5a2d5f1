"""A row is encoded as the slow twin below does it, and in every batch to the same bits."""

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import ContractError, DamagedError, KernelError
from recsys_spark.two_tower.kernels.inputs import MAX_STANDARD, Encoded, Field, TowerInputs, squash

M = 2**31  # buckets
INPUTS = TowerInputs(
    fields=(
        Field("price", "number", mean=1.5, deviation=0.5),
        Field("brand", "category"),
        Field("image", "vector", width=3),
        Field("title", "words"),
        Field("n_events", "number"),
        Field("tags", "values"),
        Field("affinities", "shares"),
        Field("item_id", "id"),
    ),
    n_buckets=1000,
    n_ids=50,
)
SHARES = pa.list_(pa.struct([("category", pa.string()), ("share", pa.float64())]))
SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("price", pa.float64()),
        ("n_events", pa.int64()),
        ("brand", pa.string()),
        ("title", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("affinities", SHARES),
        ("image", pa.list_(pa.float32())),
        ("not_an_input", pa.timestamp("us")),
    ]
)
Row = dict[str, Any]

# Few letters, so that values repeat; white space, compatibility forms and marks that take different paths.
_text = st.text(alphabet="aAbs1_ \t'ßﬁ茶é\u0301-", max_size=8)
_share = st.fixed_dictionaries({"category": st.none() | _text, "share": st.none() | st.floats(-1, 1, width=32)})
_float32 = st.floats(width=32)
_rows = st.lists(
    st.fixed_dictionaries(
        {
            "item_id": _text.filter(str.strip),
            "price": st.none() | st.floats(),
            "n_events": st.none() | st.integers(-(2**63), 2**63 - 1),
            "brand": st.none() | _text,
            "title": st.none() | st.text(alphabet="aAbs1_ ßﬁ茶", max_size=120),
            "tags": st.none() | st.lists(st.none() | _text, max_size=5),
            "affinities": st.none() | st.lists(st.none() | _share, max_size=4),
            "image": st.none() | st.lists(st.none() | _float32 | st.just(0.0), min_size=3, max_size=3),
        }
    ),
    max_size=12,
)


def _table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _hash(name: str, value: str, n: int) -> int:
    return int.from_bytes(blake2b(f"{name}\x1f{value}".encode(), digest_size=8).digest(), "little") % n


def _twin_number(field: Field, value: float | None) -> list[float]:
    if value is None or not math.isfinite(value):
        return [0.0, 1.0]
    squashed = math.copysign(math.log1p(abs(value)), value)
    return [min(max((squashed - field.mean) / field.deviation, -MAX_STANDARD), MAX_STANDARD), 0.0]


def _twin_vector(field: Field, value: list[float | None] | None) -> list[float]:
    if value is None or any(x is None or not math.isfinite(x) for x in value) or not any(value):
        return [0.0] * field.width
    return [x / math.hypot(*value) for x in value]


def _twin_values(field: Field, value: Any) -> list[tuple[str, float]]:
    """The values of one row that are hashed, with their weights."""
    if field.kind == "shares":
        entries = [one for one in value or [] if one and (one["category"] or "").strip() and one["share"] is not None]
        return [(one["category"].strip(), one["share"]) for one in entries]
    if field.kind == "category":
        return [(value.strip(), 1.0)] if (value or "").strip() else []
    if field.kind == "words":
        found = re.findall(r"\w+", normalize("NFKC", value or "").casefold())
        texts = [word for word in found if len(word) > 1 or not re.match("[a-z_]", word)]
    else:
        texts = [text.strip() for text in value or [] if (text or "").strip()]
    different = list(dict.fromkeys(texts))[: 32 if field.kind == "words" else None]
    return [(text, 1 / math.sqrt(len(different))) for text in different]


def _twin(rows: list[Row]) -> tuple[list[list[float]], list[list[tuple[int, float]]], list[int]]:
    dense, bags, ids = [], [], []
    for row in rows:
        numbers, entries = [], []
        for field in INPUTS.fields:
            value = row[field.name]
            if field.kind == "number":
                numbers += _twin_number(field, value)
            elif field.kind == "vector":
                numbers += _twin_vector(field, value)
            elif field.kind == "id":
                ids.append(_hash(field.name, value.strip(), 50))
            else:
                found = _twin_values(field, value)
                entries += [(_hash(field.name, text, 1000), float(np.float32(weight))) for text, weight in found]
        dense.append(numbers)
        bags.append(entries)
    return dense, bags, ids


def _bags(encoded: Encoded) -> list[list[tuple[int, float]]]:
    entries = list(zip(encoded.buckets.tolist(), encoded.weights.tolist(), strict=True))
    return [entries[start:end] for start, end in zip(encoded.indptr[:-1], encoded.indptr[1:], strict=True)]


def _bits(encoded: Encoded) -> list[tuple[Any, ...]]:
    return [(part.dtype.str, part.shape, part.tobytes()) for part in encoded]


def _behind_each_other(parts: list[Encoded]) -> Encoded:
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    return Encoded(
        np.concatenate([part.dense for part in parts]),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("buckets", "weights", "ids")),
    )


def _as_dictionaries(table: pa.Table) -> pa.Table:
    for name in ("item_id", "brand", "title", "price"):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, table.column(name).dictionary_encode())
    tags = table.column("tags").cast(pa.list_(pa.dictionary(pa.int32(), pa.string())))
    return table.set_column(table.schema.get_field_index("tags"), "tags", tags)


def _single(kind: str, array: pa.Array, **settings: Any) -> Encoded:
    field = Field("x", kind, **settings)  # type: ignore[arg-type]
    return TowerInputs((field,), n_buckets=M, n_ids=M if kind == "id" else 0).encode(pa.table({"x": array}))


@given(_rows)
def test_encode_matches_the_slow_twin(rows: list[Row]) -> None:
    dense, bags, ids = _twin(rows)
    encoded = INPUTS.encode(_table(rows))
    # Half a unit in the last place of float32 is 6e-8.
    np.testing.assert_allclose(encoded.dense, np.array(dense).reshape(len(rows), 2 + 3 + 2), rtol=1e-6, atol=1e-30)
    assert _bags(encoded) == bags
    assert encoded.ids.tolist() == ids


@given(st.lists(_rows, min_size=1, max_size=4))
def test_encode_of_rows_together_has_the_bits_of_each_alone(batches: list[list[Row]]) -> None:
    tables = [_table(rows) for rows in batches]
    whole = INPUTS.encode(pa.concat_tables(tables))
    assert _bits(whole) == _bits(_behind_each_other([INPUTS.encode(table) for table in tables]))
    rows = [INPUTS.encode(pa.concat_tables(tables).slice(at, 1)) for at in range(len(whole.dense))]
    assert not rows or _bits(whole) == _bits(_behind_each_other(rows))


@given(_rows, st.integers(1, 5))
def test_encode_does_not_see_how_a_column_is_stored(rows: list[Row], n_chunk: int) -> None:
    table = _table(rows)
    expected = _bits(INPUTS.encode(table))
    padded = pa.concat_tables([table.slice(0, 1), table, table.slice(0, 2)]).combine_chunks()
    sliced = padded.slice(min(1, len(rows)), len(rows))
    chunks = [_as_dictionaries(sliced.slice(at, n_chunk)) for at in range(0, len(rows), n_chunk)]
    assert _bits(INPUTS.encode(sliced)) == expected
    assert _bits(INPUTS.encode(_as_dictionaries(padded).slice(min(1, len(rows)), len(rows)))) == expected
    if chunks:
        assert _bits(INPUTS.encode(pa.concat_tables(chunks))) == expected
    for batch in table.combine_chunks().to_batches():
        assert _bits(INPUTS.encode(batch)) == expected


def test_encode_of_a_long_batch_has_the_bits_of_each_row() -> None:
    """Longer than what NumPy or the encoding treats as one block, so that a row's place could show."""
    rng = np.random.default_rng(7)
    n, width = 3000, 200
    vectors = rng.normal(size=(n, width)).astype(np.float32)
    table = pa.table(
        {
            "x": pa.array(rng.lognormal(sigma=3, size=n), mask=rng.random(n) < 0.1),
            "v": pa.array(list(vectors), pa.list_(pa.float32(), width), mask=rng.random(n) < 0.1),
            "c": pa.array(rng.integers(0, 100, n)),
            "w": pa.array([f"red{i % 70} mug{i % 90}" for i in range(n)]),
        }
    )
    fields = (Field("x", "number"), Field("v", "vector", width), Field("c", "category"), Field("w", "words"))
    inputs = TowerInputs(fields, n_buckets=M)
    rows = [inputs.encode(table.slice(at, 1)) for at in range(n)]
    assert _bits(inputs.encode(table)) == _bits(_behind_each_other(rows))


def test_encode_gives_shapes_and_types_for_no_rows() -> None:
    encoded = INPUTS.encode(_table([]))
    assert [(part.dtype, part.shape) for part in encoded] == [
        (np.float32, (0, INPUTS.width)),
        (np.int64, (1,)),
        (np.int32, (0,)),
        (np.float32, (0,)),
        (np.int32, (0,)),
    ]


def test_encode_takes_columns_that_are_null_without_a_type() -> None:
    columns = {field.name: pa.nulls(2) for field in INPUTS.fields}
    encoded = INPUTS.encode(pa.table(columns | {"item_id": ["a", "b"]}))
    assert encoded.dense.tolist() == [[0, 1, 0, 0, 0, 0, 1]] * 2
    assert encoded.indptr.tolist() == [0, 0, 0]


def test_encode_marks_a_row_without_an_id() -> None:
    assert _single("id", pa.array([None, "a", " "])).ids.tolist()[::2] == [-1, -1]
    assert _single("id", pa.nulls(2)).ids.tolist() == [-1, -1]


def test_engaged_columns_are_those_of_engaged_numbers() -> None:
    fields = (
        Field("a", "number"),
        Field("v", "vector", width=3),
        Field("b", "number", engaged=True),
        Field("t", "words"),
        Field("c", "number", engaged=True),
    )
    inputs = TowerInputs(fields, 8)
    assert inputs.engaged_columns.tolist() == [2 + 3, 2 + 3 + 2]
    assert inputs.engaged_columns.dtype == np.int64
    assert TowerInputs(fields[:2], 8).engaged_columns.tolist() == []
    assert TowerInputs.from_json(inputs.as_json()) == inputs
    with pytest.raises(KernelError, match="t: expected a number that is engaged, got words"):
        TowerInputs((Field("t", "words", engaged=True),), 8)


def test_encode_has_no_ids_when_no_field_is_one() -> None:
    assert _single("number", pa.array([1.0])).ids.shape == (0,)


@pytest.mark.parametrize(
    "type_", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.decimal128(9, 2), pa.decimal256(40, 1)]
)
def test_encode_takes_a_number_of_any_type(type_: pa.DataType) -> None:
    array = pa.array([3.0, None, 7.0]).cast(type_)
    dense = _single("number", array, mean=1.0, deviation=2.0).dense
    expected = [[(math.log1p(3) - 1) / 2, 0], [0, 1], [(math.log1p(7) - 1) / 2, 0]]
    np.testing.assert_allclose(dense, expected, rtol=1e-6)


def test_encode_takes_bools_as_zero_and_one() -> None:
    dense = _single("number", pa.array([True, False, None])).dense
    np.testing.assert_allclose(dense, [[math.log1p(1), 0], [0, 0], [0, 1]], rtol=1e-6)


def test_encode_clips_outliers_of_both_signs() -> None:
    dense = _single("number", pa.array([1e300, -1e300, 0.0]), deviation=0.25).dense
    assert dense.tolist() == [[MAX_STANDARD, 0], [-MAX_STANDARD, 0], [0, 0]]


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (pa.array([-12]), "-12"),
        (pa.array([2**64 - 1], pa.uint64()), str(2**64 - 1)),
        (pa.array([True]), "true"),
        (pa.array(["x"], pa.large_string()), "x"),
        (pa.array(["x"], pa.string_view()), "x"),
        (pa.array([5], pa.int16()).dictionary_encode(), "5"),
        (pa.array(["y", "x"]).dictionary_encode().slice(1), "x"),
    ],
)
@pytest.mark.parametrize("kind", ["category", "id"])
def test_encode_takes_text_of_any_type(kind: str, array: pa.Array, text: str) -> None:
    encoded = _single(kind, array)
    assert (encoded.ids if kind == "id" else encoded.buckets).tolist() == [_hash("x", text, M)]


@pytest.mark.parametrize(
    "type_", [pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.list_(pa.int8(), 2), pa.list_(pa.large_string())]
)
def test_encode_takes_values_in_lists_of_any_type(type_: pa.DataType) -> None:
    lists = [[1, 2], None, [3, 1]]
    array = (
        pa.array(lists).cast(pa.list_(pa.string())).cast(type_) if pa.types.is_list(type_) else pa.array(lists, type_)
    )
    encoded = _single("values", array.slice(1))
    assert encoded.indptr.tolist() == [0, 0, 2]
    assert encoded.buckets.tolist() == [_hash("x", "3", M), _hash("x", "1", M)]


def test_encode_takes_shares_by_the_names_of_their_fields() -> None:
    struct = pa.struct(
        [("more", pa.int8()), ("share", pa.decimal128(3, 2)), ("category", pa.dictionary(pa.int8(), pa.string()))]
    )
    array = pa.array([[{"more": 1, "share": Decimal("0.25"), "category": "toys"}]], pa.list_(struct))
    encoded = _single("shares", array)
    assert _bags(encoded) == [[(_hash("x", "toys", M), 0.25)]]


@pytest.mark.parametrize(
    "type_",
    [
        pa.list_(pa.float64()),
        pa.list_(pa.float32(), 2),
        pa.large_list(pa.float32()),
        pa.list_(pa.int32()),
        pa.list_(pa.float16()),
    ],
)
def test_encode_takes_vectors_of_any_type(type_: pa.DataType) -> None:
    array = (
        pa.array([[9, 9], [3, -4], None, [0, 0]]).cast(type_)
        if not pa.types.is_fixed_size_list(type_)
        else (pa.array([[9, 9], [3, -4], None, [0, 0]], type_))
    )
    dense = _single("vector", array.slice(1), width=2).dense
    np.testing.assert_allclose(dense, [[3 / 5, -4 / 5], [0, 0], [0, 0]], rtol=1e-7)


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e300])
def test_encode_keeps_the_direction_of_a_vector_of_any_length(scale: float) -> None:
    dense = _single("vector", pa.array([[3 * scale, 4 * scale]]), width=2).dense
    np.testing.assert_allclose(dense, [[3 / 5, 4 / 5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "array", "expected"),
    [
        ("number", pa.array(["1"]), "expected number as double, got string"),
        ("number", pa.array([datetime(2025, 1, 1, tzinfo=UTC)]), r"got timestamp\[us, tz=UTC\]"),
        ("number", pa.array([1], pa.date32()), r"got date32\[day\]"),
        ("number", pa.array([1], pa.duration("s")), r"got duration\[s\]"),
        ("number", pa.array(["1"]).dictionary_encode(), "got dictionary"),
        ("number", pa.array([[1.0]]), "got list"),
        ("category", pa.array([1.5]), "expected category as string, got double"),
        ("category", pa.array([Decimal("1.5")]), "got decimal128"),
        ("category", pa.array([b"x"]), "got binary"),
        ("words", pa.array([["x"]]), "expected words as string, got list"),
        ("id", pa.array([1], pa.timestamp("us")), r"expected id as string, got timestamp\[us\]"),
        ("values", pa.array(["x"]), "expected values as list<.*string>, got string"),
        ("values", pa.array([[1.5]]), "got list<.*double>"),
        ("values", pa.array([[["x"]]]), "got list"),
        ("shares", pa.array([["x"]]), "expected shares as list<.*>, got list<.*string>"),
        ("shares", pa.array([[{"category": "x"}]]), "got list"),
        ("shares", pa.array([[{"category": "x", "share": "1"}]]), "got list"),
        ("shares", pa.array([[{"category": 1.5, "share": 1.0}]]), "got list"),
        ("vector", pa.array([1.0]), "expected vector as list<.*double>, got double"),
        ("vector", pa.array([["1", "2"]]), "got list<.*string>"),
    ],
)
def test_encode_refuses_a_type_that_does_not_fit(kind: str, array: pa.Array, expected: str) -> None:
    with pytest.raises(ContractError, match=f"tower inputs x: .*{expected}.*; give the columns"):
        _single(kind, array, width=2 if kind == "vector" else 0)


@pytest.mark.parametrize("type_", [pa.list_(pa.float32()), pa.list_(pa.float32(), 3)])
def test_encode_refuses_a_vector_of_another_width(type_: pa.DataType) -> None:
    array = pa.array([None, [1.0, 2.0, 3.0]], type_)
    with pytest.raises(ContractError, match="tower inputs x: expected vectors of 2, got one of 3; give"):
        _single("vector", array, width=2)


def test_encode_names_every_column_that_does_not_fit() -> None:
    table = pa.table([pa.array([1.5]), pa.array([1]), pa.array([1])], names=["brand", "twice", "twice"])
    fields = (Field("brand", "category"), Field("price", "number"), Field("twice", "number"))
    with pytest.raises(ContractError) as caught:
        TowerInputs(fields, n_buckets=10).encode(table)
    message = str(caught.value)
    assert "brand: expected category as string, got double; " in message
    assert "price: expected one such column, got 0; " in message
    assert "twice: expected one such column, got 2; " in message


@pytest.mark.parametrize(
    ("fields", "n_buckets", "n_ids", "fault"),
    [
        ((Field("x", "colour"),), 10, 0, "x kind: expected one of number, .*, got 'colour'"),  # type: ignore[arg-type]
        ((Field("x", "vector"),), 10, 0, "x width: expected >= 1 for a vector, 0 for others, got 0"),
        ((Field("x", "vector", width=-1),), 10, 0, "x width: .*, got -1"),
        ((Field("x", "number", width=2),), 10, 0, "x width: .*, got 2"),
        ((Field("x", "number", mean=math.nan),), 10, 0, "x: expected finite mean, deviation > 0, got nan, 1.0"),
        ((Field("x", "number", deviation=0.0),), 10, 0, "x: .*, got 0.0, 0.0"),
        ((Field("x", "number", deviation=math.inf),), 10, 0, "x: .*, got 0.0, inf"),
        ((Field("x", "id"),), 10, 0, "n_ids: expected 1 to .*, got 0 with 1"),
        ((Field("x", "id"), Field("y", "id")), 10, 5, "n_ids: .*, got 5 with 2"),
        ((Field("x", "number"),), 10, 5, "n_ids: .*, got 5 with 0"),
        ((Field("x", "id"),), 10, 2**31 + 1, "n_ids: .*, got 2147483649 with 1"),
        ((Field("x", "number"),), 10, -1, "n_ids: .*, got -1 with 0"),
        ((Field("x", "words"),), 0, 0, "n_buckets: expected 1 to .*, got 0"),
        ((Field("x", "words"),), 2**31 + 1, 0, "n_buckets: .*, got 2147483649"),
        ((Field("x", "number"), Field("x", "number", mean=1.0)), 10, 0, r"fields: expected each once, got \('x', 'num"),
    ],
)
def test_tower_inputs_refuses_what_does_not_hold_together(
    fields: tuple[Field, ...], n_buckets: int, n_ids: int, fault: str
) -> None:
    with pytest.raises(KernelError, match=f"^tower inputs: {fault}.*; correct what declares"):
        TowerInputs(fields, n_buckets, n_ids)


def test_tower_inputs_takes_one_column_as_two_kinds() -> None:
    fields = (Field("title", "words"), Field("title", "category"))
    encoded = TowerInputs(fields, n_buckets=M).encode(pa.table({"title": ["Mug"]}))
    assert encoded.buckets.tolist() == [_hash("title", "mug", M), _hash("title", "Mug", M)]


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(min_value=0, exclude_min=True, allow_infinity=False))
@settings(max_examples=30)
def test_from_json_gives_the_inputs_of_a_card_exactly(mean: float, deviation: float) -> None:
    inputs = replace(INPUTS, fields=(*INPUTS.fields, Field("more", "number", mean=mean, deviation=deviation)))
    assert TowerInputs.from_json(json.loads(json.dumps(inputs.as_json()))) == inputs


@pytest.mark.parametrize(
    "card",
    [
        {},
        {"fields": [{"name": "x", "kind": "colour"}], "n_buckets": 1, "n_ids": 0},
        {"fields": [{"name": "x", "kind": "number", "more": 1}], "n_buckets": 1, "n_ids": 0},
        {"fields": [{"name": "x", "kind": "number"}], "n_buckets": "1", "n_ids": 0},
    ],
)
def test_from_json_refuses_what_is_no_card(card: dict[str, Any]) -> None:
    with pytest.raises(DamagedError, match=r"tower inputs: expected what the card of a model keeps, got .*; train"):
        TowerInputs.from_json(card)


def test_squash_keeps_the_sign() -> None:
    expected = [-math.log1p(9), 0, math.log1p(0.5), math.log1p(1e300)]
    np.testing.assert_allclose(squash(np.array([-9, 0, 0.5, 1e300])), expected, rtol=1e-15)
