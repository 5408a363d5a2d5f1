"""Lists of Arrow as offsets and values; a null, or a slice, is no trap."""

import pyarrow as pa

from recsys_spark.spark.arrow_lists import flat_of, indptr_of, lengths_of, ragged_of

LISTS = pa.array([[9], [1, 2], None, [], [3]], pa.list_(pa.int32())).slice(1)


def test_lists_are_offsets_and_values_of_their_own() -> None:
    assert lengths_of(LISTS).tolist() == [2, 0, 0, 1]
    assert indptr_of(LISTS).tolist() == [0, 2, 2, 2, 3]
    assert flat_of(LISTS).tolist() == [1, 2, 3]
    rows = ragged_of(LISTS)
    assert (rows.indptr.tolist(), rows.values.tolist(), rows.values.dtype) == ([0, 2, 2, 2, 3], [1, 2, 3], "int64")
