"""Fold-in: the factors of one row that was not in the fit, as `als.kernels.objective` solves many, in plain numpy.

Owns: that arithmetic for a process that has no compiler, above all a service.
"""

import numpy as np

from recsys_spark.errors import ArgumentError, KernelError

_NO_EIGENVALUE = 1e-13  # part of the greatest eigenvalue below which one is rounding


def fold_in(
    vectors: np.ndarray,
    weights: np.ndarray,
    gramian: np.ndarray,
    n_cols: int,
    alpha: float,
    regularization: float,
    nu: float,
    unobserved: float,
) -> np.ndarray:
    """Factors of a row with these entries, float32 (f,).

    vectors: factors of the other side that the entries name, float32 (n, f).  weights: r_ui of each, (n,); a weight of
    0 is as good as no entry, and a row of such has factors of zero.  gramian: of all n_cols rows of the other side,
    float64 (f, f).  Settings as in the fit (`als.kernels.objective.Ridge`).
    Raises ArgumentError if a weight is negative or not finite, KernelError if the system has no single solution.
    Source: Hu, Koren, Volinsky 2008, eq. 4.
    """
    wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
    if len(wrong):
        raise ArgumentError(
            f"fold_in: expected finite weights of at least 0, got {wrong[0]:g}; leave out what must not count"
        )
    has = weights > 0
    if not has.any():
        return np.zeros(len(gramian), np.float32)
    v, w = vectors[has].astype(np.float64), alpha * weights[has].astype(np.float64)
    ridge = regularization * (alpha * len(w) + unobserved * n_cols) ** nu
    # The trace bounds the greatest eigenvalue.  With a ridge above rounding the least need not be computed.
    rounding = _NO_EIGENVALUE * np.trace(gramian)
    if not ridge > rounding and not np.linalg.eigvalsh(gramian)[0] + ridge > rounding:
        raise KernelError(
            f"als.regularization: expected a ridge above 0, got {ridge:g} beside a Gramian of rank below als.factors "
            f"{len(gramian)}; raise als.regularization or lower als.factors"
        )
    system = gramian + ridge * np.eye(len(gramian)) + (v.T * w) @ v  # (f, f)
    return np.asarray(np.linalg.solve(system, v.T @ (1 + w)), np.float32)
