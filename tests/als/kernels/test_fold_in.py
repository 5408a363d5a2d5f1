"""The twin of the kernel for one row: the same factors, and the same refusals."""

import subprocess
import sys

import numpy as np
import pytest

from recsys_spark.als.kernels.fold_in import fold_in
from recsys_spark.als.kernels.objective import Ridge, gramian
from recsys_spark.errors import ArgumentError, KernelError
from tests.als_oracle import assert_rows_near, normal_factors, random_rows, solved

VECTORS = normal_factors(1, 5, 3)
GRAMIAN = gramian(normal_factors(1, 20, 3))


def factors_of(weights: list[float], regularization: float = 0.1) -> np.ndarray:
    """From as many of VECTORS as there are weights."""
    return fold_in(VECTORS[: len(weights)], np.array(weights), GRAMIAN, 20, 2.0, regularization, 1.0, 1.0)


@pytest.mark.parametrize(("nu", "unobserved"), [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (1.0, 0.25), (1.0, 0.0)])
@pytest.mark.parametrize("alpha", [0.01, 1.0, 40.0])
@pytest.mark.parametrize("factors", [1, 16, 64])
def test_fold_in_gives_the_factors_of_the_kernel(factors: int, alpha: float, nu: float, unobserved: float) -> None:
    matrix, y = random_rows(2, [0, 1, 2, 7, 31, 32, 47, 48, 70, 200, 1000], 1000), normal_factors(3, 1000, factors)
    ridge = Ridge(alpha, 0.1, nu, unobserved)
    found = []
    for weights in matrix:
        has = np.flatnonzero(weights)
        found.append(fold_in(y[has], weights[has], gramian(y), 1000, alpha, 0.1, nu, unobserved))
    # The kernel's float32: roundings of 6e-8, and a residual of 1e-6 where it iterates, times a condition of 10 or so.
    assert_rows_near(solved(matrix, y, ridge).X, np.array(found), 3e-5)


def test_fold_in_is_the_solution_of_the_normal_equation() -> None:
    # One factor: (gramian + ridge + alpha r y^2) x = (1 + alpha r) y, with a ridge of 0.5 * (2 * 1 + 0.4 * 10)^1.
    x = fold_in(np.array([[3.0]], np.float32), np.array([5.0]), np.array([[20.0]]), 10, 2.0, 0.5, 1.0, 0.4)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, [(1 + 2 * 5) * 3 / (20 + 0.5 * (2 * 1 + 0.4 * 10) + 2 * 5 * 3**2)], rtol=1e-7)


def test_fold_in_of_nothing_is_zero() -> None:
    for weights in ([], [0.0, 0.0]):
        assert factors_of(weights).tolist() == [0, 0, 0]
        assert factors_of(weights).dtype == np.float32


def test_fold_in_takes_a_weight_of_zero_for_no_entry() -> None:
    expected = fold_in(VECTORS[[0, 2]], np.array([1.0, 3.0]), GRAMIAN, 20, 2.0, 0.1, 1.0, 1.0)
    np.testing.assert_array_equal(factors_of([1.0, 0.0, 3.0, 0.0]), expected)


@pytest.mark.parametrize("wrong", [-1.0, -1e-30, np.nan, np.inf, -np.inf])
def test_fold_in_refuses_a_weight_that_is_none(wrong: float) -> None:
    with pytest.raises(ArgumentError, match=f"expected finite weights of at least 0, got {wrong:g}; leave out"):
        factors_of([1.0, wrong])


def test_fold_in_names_the_setting_where_there_is_no_single_solution() -> None:
    with pytest.raises(KernelError, match=r"als\.regularization: expected a ridge above 0, got 0"):
        fold_in(0 * VECTORS[:1], np.ones(1), np.zeros((3, 3)), 20, 2.0, 0.0, 1.0, 1.0)
    assert np.isfinite(factors_of([1.0], regularization=0.0)).all()


def test_fold_in_loads_numpy_alone() -> None:
    code = """
import sys
import recsys_spark.als.kernels.fold_in
print([name for name in ("numba", "pyspark", "pandas", "pyarrow", "scipy") if name in sys.modules])"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
