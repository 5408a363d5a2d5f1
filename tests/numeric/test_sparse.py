"""Sparse rows against dense matrices."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recsys_spark.numeric.sparse import Csr, entries_of, stacked, transposed
from tests.item_cf_oracle import sparse
from tests.sparse import csr_of_pairs

MATRICES = st.tuples(st.integers(0, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.0, 1.0, 2.5]))
)


def dense(matrix: Csr) -> np.ndarray:
    found = np.zeros((matrix.n_rows, matrix.n_cols), np.float32)
    found[matrix.rows, matrix.indices] = matrix.values
    return found


def test_csr_of_pairs_sorts_pairs_of_any_order_and_keeps_empty_rows() -> None:
    matrix = csr_of_pairs(np.array([3, 0, 3]), np.array([2, 1, 0]), np.array([5.0, 6.0, 7.0]), 5, 4)
    assert matrix.indptr.tolist() == [0, 1, 1, 1, 3, 3]
    assert matrix.indices.tolist() == [1, 0, 2]
    assert matrix.values.tolist() == [6.0, 7.0, 5.0]
    assert (matrix.n_rows, matrix.n_cols) == (5, 4)


def test_csr_of_pairs_makes_the_types_that_compiled_functions_take() -> None:
    matrix = csr_of_pairs(np.array([0]), np.array([0]), np.array([1]), 1, 1)
    assert [array.dtype for array in matrix[:3]] == [np.int64, np.int32, np.float32]


def test_csr_of_pairs_makes_a_matrix_of_no_pairs() -> None:
    nothing = np.empty(0, np.int64)
    assert csr_of_pairs(nothing, nothing, nothing, 2, 3).indptr.tolist() == [0, 0, 0]


def test_csr_tells_length_and_row_of_entries() -> None:
    matrix = sparse(np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], np.float32))
    assert matrix.lengths.tolist() == [2, 0, 1]
    assert matrix.rows.tolist() == [0, 0, 2]


@given(MATRICES)
@settings(deadline=None)  # the first example compiles
def test_transposed_exchanges_rows_and_columns(matrix: np.ndarray) -> None:
    found = transposed(sparse(matrix))
    np.testing.assert_array_equal(dense(found), matrix.T)
    assert found.n_cols == len(matrix)
    for row in range(found.n_rows):
        assert (np.diff(found.indices[found.indptr[row] : found.indptr[row + 1]]) > 0).all()


@given(MATRICES, st.data())
@settings(deadline=None)
def test_transposed_takes_the_columns_of_a_block_alone(matrix: np.ndarray, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, matrix.shape[1]))
    end = data.draw(st.integers(first, matrix.shape[1]))
    np.testing.assert_array_equal(dense(transposed(sparse(matrix), first, end)), matrix.T[first:end])


def test_entries_of_takes_rows_in_the_order_that_is_asked_for() -> None:
    matrix = sparse(np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0]], np.float32))
    indptr, places = entries_of(matrix.indptr, np.array([2, 1, 0, 2]))
    assert indptr.tolist() == [0, 1, 1, 3, 4]
    assert matrix.values[places].tolist() == [3, 1, 2, 3]
    assert [found.tolist() for found in entries_of(matrix.indptr, np.empty(0, np.int64))] == [[0], []]


def test_stacked_has_the_rows_of_all_parts() -> None:
    matrix = (np.arange(12).reshape(4, 3) % 3).astype(np.float32)
    found = stacked(*(sparse(part) for part in (matrix[:1], matrix[1:1], matrix[1:])))
    for column, expected in zip(found, sparse(matrix), strict=True):
        np.testing.assert_array_equal(column, expected)
