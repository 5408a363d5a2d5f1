"""Every similarity against its definition; the same bits however users and items are cut; weights of every size."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recsys_spark.errors import KernelError
from recsys_spark.item_cf.kernels.similarity import (
    MAX_WEIGHT,
    Similarity,
    co_occurrences,
    entry_values,
    item_parts,
    nearest_items,
)
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr, transposed
from tests.item_cf_oracle import (
    NAMES,
    assert_same_lists,
    chunks_of,
    lists_of,
    long_tailed,
    neighbors_of,
    oracle_similarities,
    similarity_of,
    sparse,
    sums_of,
)

# Values and scores are float32: a relative error of 6e-8 each, a few of them in a row.  What is taken off in a
# correlation is of size 1, and so leaves that error as an absolute one.
RELATIVE, ABSOLUTE = 1e-6, 1e-6

MATRICES = st.tuples(st.integers(1, 7), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0]))
)
ONE_PAIR = np.array([[2.0, 1.0]], np.float32)


def dense(lists: Ranked, n_items: int) -> np.ndarray:
    found = np.zeros((len(lists.indptr) - 1, n_items))
    found[np.repeat(np.arange(len(found)), np.diff(lists.indptr)), lists.indices] = lists.scores
    return found


def assert_as_defined(matrix: np.ndarray, similarity: Similarity) -> None:
    lists = neighbors_of(sparse(matrix), similarity)
    expected = np.maximum(oracle_similarities(matrix, similarity), 0.0)  # nothing below 0 is listed
    np.testing.assert_allclose(dense(lists, matrix.shape[1]), expected, rtol=RELATIVE, atol=ABSOLUTE)
    for entries in lists_of(lists):
        assert entries == sorted(entries, key=lambda entry: (-entry[1], entry[0]))
        assert all(score > 0 for _, score in entries)


@pytest.mark.parametrize("least", [1, 3])
@pytest.mark.parametrize("shrinkage", [0.0, 2.5])
@pytest.mark.parametrize("name", NAMES)
def test_nearest_items_matches_the_definition(name: str, shrinkage: float, least: int) -> None:
    assert_as_defined(long_tailed(11, n_users=60, n_items=30), similarity_of(name, shrinkage, least))


@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_nearest_items_matches_the_definition_where_few_of_many_items_meet(name: str, least: int) -> None:
    # At most 12 * 8 products in the row of an item, an eighth of the items is 100: each row lists the items it meets.
    matrix = np.zeros((12, 800), np.float32)
    matrix[:, ::100] = long_tailed(19, n_users=12, n_items=8)
    assert_as_defined(matrix, similarity_of(name, 0.5, least))


@pytest.mark.parametrize("name", NAMES)
@given(matrix=MATRICES, shrinkage=st.sampled_from([0.0, 1.0]), least=st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_nearest_items_matches_the_definition_on_small_logs(
    name: str, matrix: np.ndarray, shrinkage: float, least: int
) -> None:
    if matrix.any():
        assert_as_defined(matrix, similarity_of(name, shrinkage, least))


@pytest.mark.parametrize("name", NAMES)
def test_nearest_items_of_the_transpose_are_near_users(name: str) -> None:
    matrix, similarity = long_tailed(12, n_users=20, n_items=30), similarity_of(name)
    lists = neighbors_of(transposed(sparse(matrix)), similarity)
    expected = np.maximum(oracle_similarities(matrix.T, similarity), 0.0)
    np.testing.assert_allclose(dense(lists, 20), expected, rtol=RELATIVE, atol=ABSOLUTE)


@pytest.mark.parametrize("name", ["cosine", "jaccard", "pearson"])
def test_nearest_items_of_a_symmetric_similarity_are_symmetric_to_the_last_bit(name: str) -> None:
    found = dense(neighbors_of(sparse(long_tailed(13, n_users=80, n_items=40)), similarity_of(name, 0.3)), 40)
    assert np.count_nonzero(found) > 100
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("name", ["conditional", "rp3beta"])
def test_nearest_items_of_a_directed_similarity_are_damped_by_the_neighbor(name: str) -> None:
    # Item 1 has more users than item 0, so from 0 it weighs less than the other way round without its own damping.
    matrix = np.array([[1, 1], [0, 1], [0, 1], [0, 1]], np.float32)
    found = dense(neighbors_of(sparse(matrix), similarity_of(name)), 2)
    v = 1.0 if name == "conditional" else 0.5**0.6  # 1 * 1 / t_u, t_u = 2, to the power gamma
    alpha = 1.0 if name == "conditional" else 0.8
    np.testing.assert_allclose([found[0, 1], found[1, 0]], [v / 4**0.4, v / 4**alpha], rtol=RELATIVE)


@pytest.mark.parametrize("name", NAMES)
@given(cuts=st.lists(st.integers(0, 50), max_size=6), least=st.sampled_from([1, 3]))
@settings(max_examples=15, deadline=None)
def test_nearest_items_have_the_same_bits_however_users_are_cut(name: str, cuts: list[int], least: int) -> None:
    weights, similarity = sparse(long_tailed(14, n_users=50, n_items=30)), similarity_of(name, 0.5, least, 8)
    assert_same_lists(in_chunks(weights, cuts, similarity, range(30)), neighbors_of(weights, similarity))


@pytest.mark.parametrize("name", NAMES)
def test_nearest_items_have_the_same_bits_with_empty_chunks(name: str) -> None:
    weights, similarity = sparse(long_tailed(14, n_users=50, n_items=30)), similarity_of(name, 0.5, 2, 8)
    for cuts in ([0, 0], [50, 50], [25, 25, 25], list(range(51))):
        assert_same_lists(in_chunks(weights, cuts, similarity, range(30)), neighbors_of(weights, similarity))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("edges", [[0, 1, 30], [0, 13, 13, 30], list(range(31))])
def test_nearest_items_have_the_same_bits_however_items_are_cut(name: str, edges: list[int]) -> None:
    weights, similarity = sparse(long_tailed(15, n_users=50, n_items=30)), similarity_of(name, 0.5, 2, 8)
    blocks = [range(first, end) for first, end in pairwise(edges)]
    found = [entries for items in blocks for entries in lists_of(in_chunks(weights, [20], similarity, items))]
    assert found == lists_of(neighbors_of(weights, similarity))


def in_chunks(weights: Csr, cuts: list[int], similarity: Similarity, items: range) -> Ranked:
    *before, last = (entry_values(chunk, similarity) for chunk in chunks_of(weights, cuts))
    known = None
    for values in before:
        known = co_occurrences(values, items, known, similarity)
    return nearest_items(last, items, known, sums_of(weights), similarity)


@pytest.mark.parametrize("name", NAMES)
def test_nearest_items_keeps_the_first_of_the_full_list(name: str) -> None:
    # Weights of 1 alone make many ties.
    weights = sparse((long_tailed(16, n_users=60, n_items=40) > 0).astype(np.float32))
    full = lists_of(neighbors_of(weights, similarity_of(name)))
    assert max(map(len, full)) > 5
    assert lists_of(neighbors_of(weights, similarity_of(name, num_neighbors=5))) == [entries[:5] for entries in full]


def test_nearest_items_breaks_ties_by_smaller_idx() -> None:
    found = lists_of(neighbors_of(sparse(np.ones((3, 5), np.float32)), similarity_of("cosine", num_neighbors=2)))
    assert [[item for item, _ in entries] for entries in found] == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]
    np.testing.assert_allclose([score for entries in found for _, score in entries], 1.0, rtol=RELATIVE)


@pytest.mark.parametrize("name", NAMES)
def test_nearest_items_gives_items_without_users_no_list_and_no_place(name: str) -> None:
    matrix = np.zeros((9, 6), np.float32)
    matrix[:, [1, 4]] = long_tailed(17, n_users=9, n_items=2)
    matrix[:3, 1] = matrix[:3, 4] = 1.0
    found = lists_of(neighbors_of(sparse(matrix), similarity_of(name)))
    assert {other for entries in found for other, _ in entries} <= {1, 4}
    assert [item for item, entries in enumerate(found) if entries] in ([1, 4], [])  # a correlation may be negative


@pytest.mark.parametrize("name", NAMES)
def test_nearest_items_lists_only_what_may_be_listed(name: str) -> None:
    weights, listed = sparse(long_tailed(18, n_users=60, n_items=30)), np.arange(30) % 3 == 0
    found = lists_of(neighbors_of(weights, similarity_of(name, num_neighbors=4), listed))
    full = lists_of(neighbors_of(weights, similarity_of(name)))
    assert found == [[entry for entry in entries if listed[entry[0]]][:4] for entries in full]


@pytest.mark.parametrize("weight", [1.0, 0.1, 0.3, 0.7, 0.01, 0.003, 3.3])
@pytest.mark.parametrize("n_users", [3, 1000])
def test_pearson_finds_nothing_near_to_what_everybody_has_alike(weight: float, n_users: int) -> None:
    # What rounding leaves of the variance is not a variance.
    matrix = np.full((n_users, 3), weight, np.float32)
    matrix[: n_users // 2, 2] = 0
    assert lists_of(neighbors_of(sparse(matrix), similarity_of("pearson"))) == [[], [], []]


def test_pearson_counts_users_who_have_anything() -> None:
    matrix = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32)
    found = lists_of(neighbors_of(sparse(matrix), similarity_of("pearson")))
    # Of three users two have both: covariance 2 - 2 * 2 / 3, variance the same.
    np.testing.assert_allclose(found[0], [(1, (2 - 4 / 3) / (2 - 4 / 3))], rtol=RELATIVE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosine", [1.0, 1.0]),
        ("jaccard", [1.0, 1.0]),
        ("conditional", [1.0, 1.0]),
        ("rp3beta", [1 / 3**0.6, 2**0.8 / 3**0.6]),  # the walk back to the user is sure, the other step is not
    ],
)
def test_nearest_items_of_one_user(name: str, expected: list[float]) -> None:
    (to_second,), (to_first,) = lists_of(neighbors_of(sparse(ONE_PAIR), similarity_of(name)))
    np.testing.assert_allclose([to_second, to_first], [(1, expected[0]), (0, expected[1])], rtol=RELATIVE)


def test_pearson_of_one_user_is_nothing() -> None:
    assert lists_of(neighbors_of(sparse(ONE_PAIR), similarity_of("pearson"))) == [[], []]


@pytest.mark.parametrize("name", NAMES)
def test_nearest_items_of_one_item_is_nothing(name: str) -> None:
    assert lists_of(neighbors_of(sparse(np.ones((4, 1), np.float32)), similarity_of(name))) == [[]]


@pytest.mark.parametrize("weight", [MAX_WEIGHT, 1.0, 2.0**-12])
def test_cosine_does_not_depend_on_the_size_of_weights(weight: float) -> None:
    matrix = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32) * np.float32(weight)
    found = dense(neighbors_of(sparse(matrix), similarity_of("cosine")), 3)
    np.testing.assert_allclose(found, (1 - np.eye(3)) / 2, rtol=1e-4)  # what rounding of squares may cost


# Of item 2, whose weights stand here: so long ago that its sums round to 0, and a similarity over them is infinite.
FAINT = [1e-9, 1e-20, float(np.finfo(np.float32).smallest_subnormal)]


def with_faint(weight: float) -> np.ndarray:
    return np.array([[1, 1, weight], [2, 1, 0], [0, 0, weight], [3, 0, 0]], np.float32)


@pytest.mark.parametrize("name", ["cosine", "pearson"])
@pytest.mark.parametrize("weight", FAINT)
def test_nearest_items_finds_nothing_near_to_what_has_decayed_to_nothing(name: str, weight: float) -> None:
    found = lists_of(neighbors_of(sparse(with_faint(weight)), similarity_of(name)))
    assert [[other for other, _ in entries] for entries in found] == ([[1], [0], []] if name == "cosine" else [[]] * 3)


@pytest.mark.parametrize("weight", FAINT)
def test_rp3beta_walks_to_but_not_from_what_has_decayed_to_nothing(weight: float) -> None:
    found = lists_of(neighbors_of(sparse(with_faint(weight)), similarity_of("rp3beta")))
    assert found[2] == []
    assert all(score < 1 for entries in found for _, score in entries)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf, float(np.finfo(np.float32).max), 1.01 * MAX_WEIGHT])
def test_item_parts_refuses_a_weight_out_of_bounds(weight: float) -> None:
    weights = sparse(np.ones((2, 2)))
    with pytest.raises(KernelError, match="expected numbers above 0, at most"):
        item_parts(weights._replace(values=np.array([1, weight, 1, 1], np.float32)))


@given(order=st.permutations(range(6)), cuts=st.lists(st.integers(0, 40), min_size=5, max_size=5), small=st.booleans())
@settings(max_examples=30, deadline=None)
def test_item_parts_add_up_in_any_order_and_split(order: list[int], cuts: list[int], small: bool) -> None:
    matrix = long_tailed(19, n_users=40, n_items=10) * (1e-4 if small else MAX_WEIGHT / 8)
    weights = sparse(matrix)
    parts = [item_parts(chunk) for chunk in chunks_of(weights, cuts)]
    np.testing.assert_array_equal(sum(parts[at] for at in order), item_parts(weights))


def test_sums_of_parts_are_exact_for_fractions_that_fit() -> None:
    # Multiples of 2**-10 have squares of multiples of 2**-20.
    matrix = np.ceil(long_tailed(20, n_users=50, n_items=12) * 1024) / 1024
    sums = sums_of(sparse(matrix))
    for item in range(12):
        weights = [Fraction(float(weight)) for weight in matrix[:, item] if weight]
        found = (sums.n[item], sums.total[item], sums.squares[item])
        assert found == (len(weights), float(sum(weights)), float(sum(weight**2 for weight in weights)))
    assert sums.n_users == np.count_nonzero(matrix.any(axis=1))


def test_sums_of_parts_round_each_weight_by_half_a_fraction_at_most() -> None:
    matrix = long_tailed(21, n_users=50, n_items=12)
    sums, half = sums_of(sparse(matrix)), 2.0**-37
    for item in range(12):
        weights = [Fraction(float(weight)) for weight in matrix[:, item] if weight]
        # Twice: the result is a float64 of up to 1000, whose own rounding is smaller than the other half.
        assert abs(sums.total[item] - sum(weights)) <= 2 * half * len(weights)
        assert abs(sums.squares[item] - sum(weight**2 for weight in weights)) <= 2 * half * len(weights)


def test_sums_of_parts_hold_the_largest_weights() -> None:
    n_users = 1000
    sums = sums_of(sparse(np.full((n_users, 1), MAX_WEIGHT)))
    assert (sums.total[0], sums.squares[0]) == (n_users * MAX_WEIGHT, n_users * MAX_WEIGHT**2)
    # The bound that stands beside MAX_WEIGHT.
    assert (2**23 - 1) * int(MAX_WEIGHT) ** 2 < 2**63


@pytest.mark.parametrize("name", NAMES)
def test_entry_values_are_above_zero_however_small_the_weights(name: str) -> None:
    # A sum of products that is 0 says that two items share no user.
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    values = entry_values(sparse(np.array([[tiny, 1.0, MAX_WEIGHT]])), replace(similarity_of(name), alpha=3.0))
    assert (values.values > 0).all()
