"""The fit as its paper defines it: the objective and its fall, what is refused, and what no order or cut can change."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_spark.als.kernels.objective import (
    Fixed,
    Ridge,
    diagonal,
    dual_bound,
    effective_rank,
    fixed_side,
    gramian,
    initial_factors,
    row_costs,
    row_ridges,
    solve_rows,
)
from recsys_spark.errors import KernelError
from recsys_spark.numeric.sparse import Csr
from tests.als_oracle import (
    assert_rows_near,
    fit,
    fixed,
    normal_factors,
    oracle_fit,
    oracle_objective,
    oracle_row,
    random_rows,
    solved,
)
from tests.item_cf_oracle import chunks_of, long_tailed, sparse
from tests.sparse import csr_of_pairs

MOVIETWEETINGS = Path(__file__).parents[2] / "data" / "movietweetings" / "interactions.parquet"

# Of the greatest factor of a row: float32, see test_row_solver.
TOLERANCE = 1e-5
# Of the objective: float32 too, but errors of rows are of both signs.
OBJECTIVE_TOLERANCE = 1e-6

RIDGE = Ridge(alpha=2.0, regularization=0.05, nu=1.0)


def oracle_rows(matrix: np.ndarray, y: np.ndarray, ridge: Ridge) -> np.ndarray:
    return np.array([oracle_row(weights, y, ridge) for weights in matrix])


# Objective


@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
def test_solve_rows_gives_the_whole_objective(nu: float) -> None:
    matrix, y, ridge = long_tailed(1, 30, 20), normal_factors(2, 20, 4), RIDGE._replace(nu=nu)
    matrix[3], matrix[:, 5] = 0, 0
    found = solved(matrix, y, ridge)
    ridges = ridge.regularization * (ridge.alpha * (matrix > 0).sum(axis=0) + 30) ** nu
    whole = found.losses.sum() + ridges @ (y.astype(float) ** 2).sum(axis=1)
    np.testing.assert_allclose(whole, oracle_objective(matrix, found.X, y, ridge), rtol=OBJECTIVE_TOLERANCE)


def test_solve_rows_leaves_no_better_factors_for_any_row() -> None:
    matrix, y = long_tailed(3, 12, 20), normal_factors(4, 20, 3)
    found, rng = solved(matrix, y, RIDGE), np.random.default_rng(5)
    least = oracle_objective(matrix, found.X, y, RIDGE)
    for _ in range(20):
        # Far enough for the rise, which is quadratic, to be more than rounding.
        other = found.X + rng.normal(0, 0.01, found.X.shape)
        assert oracle_objective(matrix, other, y, RIDGE) > least * (1 + 1e-5)


def test_fit_gives_the_factors_of_the_oracle() -> None:
    matrix, y = long_tailed(6, 40, 25), normal_factors(7, 25, 5)
    x, y_found, objectives = fit(sparse(matrix), y, RIDGE, 5)
    expected_x, expected_y = oracle_fit(matrix, y, RIDGE, 5)
    # Ten halves, each of which takes over the error of the half before.
    assert_rows_near(x, expected_x, 10 * TOLERANCE)
    assert_rows_near(y_found, expected_y, 10 * TOLERANCE)
    whole = oracle_objective(matrix, expected_x, expected_y, RIDGE)
    np.testing.assert_allclose(objectives[-1], whole, rtol=OBJECTIVE_TOLERANCE)


@pytest.mark.parametrize(
    "ridge", [RIDGE, Ridge(40.0, 0.001, 1.0), Ridge(1.0, 0.1, 0.0), Ridge(0.1, 1.0, 0.5), Ridge(2.0, 0.5, 1.0, 0.0)]
)
@pytest.mark.parametrize("factors", [3, 16, 40])
def test_fit_never_raises_the_objective(factors: int, ridge: Ridge) -> None:
    weights = sparse(long_tailed(8, 150, 80))
    objectives = fit(weights, initial_factors(0, 80, factors, 9), ridge, 20)[2]
    assert_never_rises(objectives)
    assert objectives[-1] < 0.99 * objectives[0]


def test_fit_never_raises_the_objective_of_a_real_log() -> None:
    weights = movietweetings(30_000)
    objectives = fit(weights, initial_factors(0, weights.n_cols, 48, 9), Ridge(1.0, 0.002, 1.0), 20)[2]
    assert_never_rises(objectives)
    assert objectives[-1] < 0.9 * objectives[0]


def test_fit_takes_fewer_iterations_from_the_factors_of_the_day_before() -> None:
    rng, matrix, cold = np.random.default_rng(10), long_tailed(11, 200, 100), initial_factors(0, 100, 8, 12)
    warm = fit(sparse(matrix), cold, RIDGE, 30)[1]
    matrix[rng.random(matrix.shape) < 0.002] = 1  # the new day
    # Until 0.1 % above the lower of where both end; an objective falls in two halves.
    from_cold, from_warm = (fit(sparse(matrix), start, RIDGE, 100)[2][1::2] for start in (cold, warm))
    enough = 1.001 * min(from_cold[-1], from_warm[-1])
    taken, taken_warm = (sum(objective > enough for objective in run) + 1 for run in (from_cold, from_warm))
    assert taken_warm <= 0.7 * taken


def assert_never_rises(objectives: list[float]) -> None:
    for before, after in pairwise(objectives):
        assert after <= before * (1 + OBJECTIVE_TOLERANCE)


def movietweetings(n: int) -> Csr:
    """The first n ratings, weighted by the rating."""
    log = pq.read_table(MOVIETWEETINGS, columns=["user_id", "item_id", "value"]).slice(0, n).to_pandas()
    users, items = (np.unique(log[name], return_inverse=True)[1] for name in ("user_id", "item_id"))
    pairs, at = np.unique(users * (items.max() + 1) + items, return_index=True)
    rows, cols = np.divmod(pairs, items.max() + 1)
    return csr_of_pairs(rows, cols, log["value"].to_numpy()[at], users.max() + 1, items.max() + 1)


# Planted answers


@pytest.mark.parametrize("factors", [2, 16, 40])
def test_fit_finds_what_is_left_out_of_a_checkerboard(factors: int) -> None:
    # User u has every item of the same parity but item u.
    matrix = (np.add.outer(np.arange(50), np.arange(50)) % 2 == 0).astype(np.float32)
    np.fill_diagonal(matrix, 0)
    x, y, _ = fit(sparse(matrix), initial_factors(0, 50, factors, 13), RIDGE, 10)
    assert np.where(matrix > 0, -np.inf, x @ y.T).argmax(axis=1).tolist() == list(range(50))


@pytest.mark.parametrize("n_blocks", [3, 8])
def test_fit_finds_what_is_left_out_of_blocks(n_blocks: int) -> None:
    # Ten users a block, all with the block's twelve items but two each.
    whole = np.kron(np.eye(n_blocks), np.ones((10, 12))).astype(np.float32)
    left_out = np.zeros_like(whole, bool)
    for u in range(len(whole)):
        left_out[u, u // 10 * 12 + np.array([u % 12, (u + 5) % 12])] = True
    matrix = np.where(left_out, 0, whole).astype(np.float32)
    x, y, _ = fit(sparse(matrix), initial_factors(0, 12 * n_blocks, n_blocks + 2, 14), RIDGE, 15)
    best = np.argsort(-np.where(matrix > 0, -np.inf, x @ y.T), axis=1, kind="stable")[:, :2]
    found = np.zeros_like(left_out)
    np.put_along_axis(found, best, True, axis=1)
    np.testing.assert_array_equal(found, left_out)


# Order, cuts and basis

CUT = [0, 1, 2, 3, 60, 61, 61, 159]


def assert_same_rounded(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for some steps of float32: BLAS rounds the product that turns factors back into their basis by its
    shape, and on some processors by a row's place in it."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("factors", [1, 3, 16, 33, 64])
def test_solve_rows_gives_the_same_however_rows_are_cut(factors: int) -> None:
    weights, side = sparse(long_tailed(15, 160, 120)), fixed(normal_factors(16, 120, factors))
    whole = solve_rows(weights, side, RIDGE)
    parts = [solve_rows(chunk, side, RIDGE) for chunk in chunks_of(weights, CUT)]
    for name in ("losses", "penalties"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    assert_same_rounded(np.concatenate([part.X for part in parts]), whole.X)


@pytest.mark.parametrize("factors", [1, 3, 16, 33, 64])
def test_solve_rows_gives_the_same_in_any_order(factors: int) -> None:
    matrix, side = long_tailed(15, 160, 120), fixed(normal_factors(16, 120, factors))
    order = np.random.default_rng(17).permutation(160)
    whole, other = solve_rows(sparse(matrix), side, RIDGE), solve_rows(sparse(matrix[order]), side, RIDGE)
    for name in ("losses", "penalties"):
        np.testing.assert_array_equal(getattr(other, name), getattr(whole, name)[order])
    assert_same_rounded(other.X, whole.X[order])


def test_solve_rows_needs_no_columns_that_no_row_has() -> None:
    matrix, y = random_rows(18, [3, 40, 90], 200), normal_factors(19, 200, 16)
    used = np.flatnonzero(matrix.any(axis=0))
    assert len(used) < 200
    side = fixed_side(y[used], *diagonal(gramian(y)), 200)
    assert_rows_near(solve_rows(sparse(matrix[:, used]), side, RIDGE).X, oracle_rows(matrix, y, RIDGE), TOLERANCE)


def test_solve_rows_turns_with_the_basis_of_the_fixed_side() -> None:
    matrix, y = random_rows(18, [1, 3, 40, 90], 200), normal_factors(19, 200, 40)
    turn = np.linalg.qr(np.random.default_rng(20).standard_normal((40, 40)))[0]
    turned = solved(matrix, (y @ turn).astype(np.float32), RIDGE).X
    assert_rows_near(turned @ turn.T, solved(matrix, y, RIDGE).X, TOLERANCE)


@pytest.mark.parametrize("factors", [1, 5, 40])
def test_fixed_side_has_a_diagonal_gramian(factors: int) -> None:
    y = normal_factors(21, 300, factors)
    side = fixed(y)
    greatest = side.eigenvalues[-1]
    np.testing.assert_allclose(gramian(side.rotated), np.diag(side.eigenvalues), atol=1e-6 * greatest)  # float32
    np.testing.assert_allclose(side.basis.T @ side.basis, np.eye(factors), atol=1e-13)
    assert side.n_cols == 300
    assert side.rotated.dtype == np.float32


# Nothing, little, and too much


def test_solve_rows_of_nothing_is_zero() -> None:
    y = normal_factors(22, 6, 3)
    matrix = np.array([[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], np.float32)
    found = solved(matrix, y, RIDGE)
    assert found.X[[0, 2]].tolist() == [[0, 0, 0]] * 2
    assert found.losses[[0, 2]].tolist() == found.penalties[[0, 2]].tolist() == [0, 0]
    assert_rows_near(found.X, oracle_rows(matrix, y, RIDGE), TOLERANCE)
    for n_rows in (0, 2):
        empty = solve_rows(sparse(np.zeros((n_rows, 6), np.float32)), fixed(y), RIDGE)
        assert empty.X.shape == (n_rows, 3)
        assert not empty.X.any()
        assert not empty.losses.any()


@pytest.mark.parametrize("factors", [3, 16, 40])
def test_solve_rows_takes_a_weight_of_zero_for_no_entry(factors: int) -> None:
    matrix, y = random_rows(23, [0, 0, 1, 5, 30, 50], 60), normal_factors(24, 60, factors)
    rows, cols = np.indices(matrix.shape).reshape(2, -1)
    full = csr_of_pairs(rows, cols, matrix.ravel(), *matrix.shape)
    assert full.lengths.tolist() == [60] * 6
    found = solve_rows(full, fixed(y), RIDGE)
    assert found.X[:2].tolist() == [[0] * factors] * 2
    assert found.losses[:2].tolist() == [0, 0]
    assert_rows_near(found.X, oracle_rows(matrix, y, RIDGE), TOLERANCE)
    np.testing.assert_allclose(found.losses, solved(matrix, y, RIDGE).losses, rtol=TOLERANCE)


@pytest.mark.parametrize(("regularization", "nu"), [(0.01, 1.0), (1.0, 0.0), (0.01, 0.0), (1e-4, 0.0)])
@pytest.mark.parametrize("factors", [6, 40])
def test_solve_rows_when_vectors_repeat(factors: int, regularization: float, nu: float) -> None:
    y = np.tile(normal_factors(25, 5, factors), (20, 1))  # of rank 5
    matrix, ridge = random_rows(26, [1, 2, 7, 20, 35, 80, 100], 100), Ridge(1.0, regularization, nu)
    assert_rows_near(solved(matrix, y, ridge).X, oracle_rows(matrix, y, ridge), TOLERANCE)


@pytest.mark.parametrize("factors", [1, 5, 40])
def test_solve_rows_needs_no_ridge_when_the_gramian_has_full_rank(factors: int) -> None:
    matrix, y, ridge = random_rows(26, [1, 7, 35, 80], 100), normal_factors(27, 100, factors), Ridge(1.0, 0.0, 1.0)
    found = solved(matrix, y, ridge)
    assert_rows_near(found.X, oracle_rows(matrix, y, ridge), TOLERANCE)
    assert not found.penalties.any()


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_solve_rows_names_the_setting_when_only_a_ridge_would_do(n: int) -> None:
    y = np.tile(normal_factors(28, 5, 6)[:n], (4, 1)) if n else np.zeros((4, 6), np.float32)
    matrix = np.ones((1, len(y)), np.float32)
    with pytest.raises(KernelError, match=r"als\.regularization: expected a ridge above 0, got 0 .*als\.factors 6"):
        solved(matrix, y, Ridge(1.0, 0.0, 1.0))
    assert np.isfinite(solved(matrix, y, Ridge(1.0, 0.01, 1.0)).X).all()
    assert not solved(0 * matrix, y, Ridge(1.0, 0.0, 1.0)).X.any()  # no row that needs one


@pytest.mark.parametrize("wrong", [-1.0, -1e-30, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 2])
def test_solve_rows_refuses_a_weight_that_is_none(at: int, wrong: float) -> None:
    weights = sparse(np.ones((1, 4), np.float32))
    weights.values[at] = wrong
    with pytest.raises(KernelError, match=r"als: expected finite weights of at least 0, got .*; clip them"):
        solve_rows(weights, fixed(normal_factors(29, 4, 2)), RIDGE)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("length", [1, 30, 40])
def test_solve_rows_refuses_factors_that_are_not_numbers(length: int, wrong: float) -> None:
    side = fixed(normal_factors(30, 50, 40))
    side.rotated[4, 1] = wrong
    matrix = np.zeros((3, 50), np.float32)
    matrix[0, 10:20], matrix[1, 4 : 4 + length], matrix[2, 10:20] = 1, 1, 1
    with pytest.raises(KernelError, match="als: expected a solution for every row, got none with weights up to 1"):
        solve_rows(sparse(matrix), side, RIDGE)
    assert np.isfinite(solve_rows(sparse(matrix[[0, 2]]), side, RIDGE).X).all()


def test_solve_rows_refuses_factors_beyond_float32() -> None:
    # Scores of about 1 with vectors of 1e-42 take factors of about 1e42.
    side = Fixed(np.full((2, 1), 1e-42, np.float32), np.array([1e-85]), np.eye(1), 2)
    with pytest.raises(KernelError, match="als: expected a solution for every row"):
        solve_rows(sparse(np.ones((1, 2), np.float32)), side, Ridge(1.0, 0.0, 0.0))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_diagonal_refuses_a_gramian_that_is_not_finite(wrong: float) -> None:
    y = normal_factors(31, 5, 3)
    y[2, 1] = wrong
    with pytest.raises(KernelError, match=r"als: expected a finite Gramian, .*als\.regularization"):
        diagonal(gramian(y))


# The parts


@pytest.mark.parametrize("n", [0, 1, 4095, 4096, 4097, 9000])
def test_gramian_is_the_sum_of_those_of_its_parts(n: int) -> None:
    y = normal_factors(32, n, 7)
    whole = y.astype(float).T @ y.astype(float)
    rounding = 1e-7 * np.linalg.eigvalsh(whole)[-1]  # sums of float32
    np.testing.assert_allclose(gramian(y), whole, rtol=0, atol=rounding)
    np.testing.assert_allclose(gramian(y[: n // 3]) + gramian(y[n // 3 :]), whole, rtol=0, atol=rounding)
    assert gramian(y).dtype == np.float64
    assert gramian(y).shape == (7, 7)


def test_diagonal_gives_no_eigenvalue_below_zero() -> None:
    y = np.tile(normal_factors(33, 2, 30), (50, 1)).astype(float)
    gram = y.T @ y
    assert np.linalg.eigvalsh(gram)[0] < 0  # rounding
    eigenvalues, basis = diagonal(gram)
    assert (eigenvalues >= 0).all()
    np.testing.assert_allclose((basis * eigenvalues) @ basis.T, gram, atol=1e-13 * eigenvalues[-1])


def test_row_ridges_grow_with_a_row_as_published() -> None:
    lengths = np.array([0, 3, 10])
    assert row_ridges(lengths, 100, Ridge(2.0, 0.5, 0.0)).tolist() == [0.5, 0.5, 0.5]
    assert row_ridges(lengths, 100, Ridge(2.0, 0.5, 1.0)).tolist() == [0.5 * 100, 0.5 * (2 * 3 + 100), 0.5 * 120]
    np.testing.assert_allclose(row_ridges(lengths, 100, Ridge(2.0, 0.5, 0.5))[2], 0.5 * np.sqrt(2 * 10 + 100))
    assert row_ridges(lengths, 100, Ridge(2.0, 0.5, 1.0, 0.1)).tolist() == [0.5 * 10, 0.5 * (2 * 3 + 10), 0.5 * 30]
    assert row_ridges(lengths, 100, Ridge(2.0, 0.5, 1.0, 0.0)).tolist() == [0, 0.5 * 2 * 3, 0.5 * 2 * 10]


def test_dual_bound_is_three_quarters_of_the_factors() -> None:
    assert [dual_bound(factors) for factors in (1, 2, 16, 33, 64)] == [1, 1, 12, 24, 48]


def test_row_costs_grow_with_entries_and_rows() -> None:
    n_entries, n_rows = np.array([0, 10, 10, 1000]), np.array([1, 1, 2, 2])
    costs = row_costs(n_entries, n_rows, 64)
    assert (np.diff(costs) > 0).all()
    assert costs.dtype == np.float64
    # Linear: blocks of equal sums take equally long, however rows are put together.
    np.testing.assert_allclose(costs.sum(), row_costs(n_entries.sum(), n_rows.sum(), 64), rtol=1e-15)
    assert (row_costs(n_entries, n_rows, 65) > costs).all()


# Where a fit starts


@pytest.mark.parametrize("factors", [1, 5, 64])
def test_initial_factors_of_a_block_are_a_part_of_the_whole(factors: int) -> None:
    whole = initial_factors(0, 100, factors, 34)
    assert whole.dtype == np.float32
    assert whole.shape == (100, factors)
    for first, end in ((0, 1), (17, 60), (99, 100), (50, 50)):
        np.testing.assert_array_equal(initial_factors(first, end, factors, 34), whole[first:end])


@pytest.mark.parametrize("factors", [4, 64])
@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63 - 1])
def test_initial_factors_are_uniform(seed: int, factors: int) -> None:
    found = initial_factors(0, 100_000 // factors, factors, seed).astype(float)
    deviation = 1 / np.sqrt(factors)
    assert abs(found.mean()) < 4 * deviation / np.sqrt(100_000)
    np.testing.assert_allclose(found.std(), deviation, rtol=0.01)  # 4 deviations of a deviation
    assert np.abs(found).max() <= np.float32(np.sqrt(3) * deviation)
    shares = np.histogram(found, 10, (-np.sqrt(3) * deviation, np.sqrt(3) * deviation))[0] / found.size
    np.testing.assert_allclose(shares, 0.1, atol=0.004)  # 4 deviations of a share
    beside = np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]
    assert abs(beside) < 4 / np.sqrt(100_000)


def test_initial_factors_differ_by_seed_and_by_row() -> None:
    numbers = np.concatenate([initial_factors(0, 50, 8, seed).ravel() for seed in range(20)])
    # 8000 of 2^23 or so float32: some 4 pairs agree by chance.
    assert len(np.unique(numbers)) > 8000 - 30


@pytest.mark.parametrize("n_directions", [1, 3])
def test_effective_rank_counts_directions_of_one_length(n_directions: int) -> None:
    rows = np.repeat(np.eye(5, dtype=np.float32)[:n_directions], 7, axis=0)
    assert effective_rank(gramian(rows)) == pytest.approx(n_directions)
    assert effective_rank(np.zeros((3, 3))) == 0
