"""Small fits through Spark: pairs as frames, settings, factors as arrays, and the same fit in one process."""

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.adapters import als
from recsys_spark.adapters.als import Fit
from recsys_spark.adapters.als_blocks import Side, Sizes, fit_blocks, fit_counts
from recsys_spark.adapters.als_exchange import read_factors
from recsys_spark.config_file import load_config
from recsys_spark.fit_settings import Als
from recsys_spark.kernels.als import Ridge, initial_factors
from recsys_spark.tables.scratch import Scratch
from tests.als_oracle import fit, solved
from tests.item_cf_oracle import sparse

SEED = 11


def make_settings(**changes: object) -> Als:
    """Settings of a fit of three iterations, with `changes`."""
    small = {"factors": 5, "alpha": 2.0, "regularization": 0.05, "nu": 1.0, "iterations": 3, "tolerance": 0.0}
    every = {"exchange": "local", "min_items_per_user": 1, "min_users_per_item": 1}
    return load_config().als.model_copy(update=small | every | changes)


def ridge_of(settings: Als) -> Ridge:
    """The settings that the kernel takes."""
    return Ridge(settings.alpha, settings.regularization, settings.nu, settings.unobserved)


def make_pairs(spark: SparkSession, matrix: np.ndarray, n_partitions: int = 2, step: int = 1) -> DataFrame:
    """The entries of `matrix`; step: -1 to have them backwards."""
    rows, cols = np.nonzero(matrix)
    entries = [(int(row), int(col), float(matrix[row, col])) for row, col in zip(rows, cols, strict=True)]
    frame = spark.createDataFrame(entries[::step], "user_idx int, item_idx int, weight float")
    return frame.repartition(n_partitions)


def sizes_of(matrix: np.ndarray, n_user_attributes: int = 0, n_item_attributes: int = 0) -> Sizes:
    """Sizes of a matrix whose last rows are attributes of items, and whose last columns are attributes of users."""
    n_rows, n_cols = matrix.shape
    return Sizes(n_rows - n_item_attributes, n_cols - n_user_attributes, n_rows, n_cols)


def force_blocks(monkeypatch: pytest.MonkeyPatch, n_blocks: int) -> None:
    """Makes every fit have so many blocks on a side."""

    def forced(pairs, sizes, counts, factors, block_bytes, _, scratch):
        return fit_blocks(pairs, sizes, counts, factors, block_bytes, n_blocks, scratch)

    monkeypatch.setattr(als, "fit_blocks", forced)


def blocks_of(
    pairs: DataFrame, sizes: Sizes, factors: int, block_bytes: int, n_blocks: int, scratch: Scratch
) -> tuple[Side, Side]:
    """Both sides with their blocks stored."""
    return fit_blocks(pairs, sizes, fit_counts(pairs, sizes), factors, block_bytes, n_blocks, scratch)


def factors_of(found: Fit, scratch: Scratch, settings: Als) -> tuple[np.ndarray, np.ndarray]:
    """Factors of all rows of both sides."""
    users, items = (read_factors(scratch, side, settings.factors) for side in (found.users, found.items))
    return users, items


def whole_fit(
    matrix: np.ndarray, settings: Als, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Factors of users, solved anew at the end, of items, and the objectives, in one piece."""
    if start is None:
        start = initial_factors(0, matrix.shape[1], settings.factors, SEED)
    _, y, objectives = fit(sparse(matrix), start, ridge_of(settings), settings.iterations)
    return solved(matrix, y, ridge_of(settings)).X, y, objectives
