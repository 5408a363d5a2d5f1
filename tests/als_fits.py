"""Small fits through Spark: pairs as frames, settings, factors as arrays, and the same fit in one process."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.als import blocks
from recsys_spark.als import fit as als
from recsys_spark.als.blocks import Counts, Side, Sizes, dealt_out, fit_blocks, fit_counts
from recsys_spark.als.exchange import read_factors
from recsys_spark.als.fit import Fit
from recsys_spark.als.kernels.objective import Ridge, initial_factors
from recsys_spark.config.load import load_config
from recsys_spark.config.models import Als
from recsys_spark.warehouse.scratch import Scratch
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


@dataclass(frozen=True)
class Entries:
    """The entries of `matrix` in place of a frame of them, which `take_entries` makes a fit store without a job."""

    matrix: np.ndarray
    n_blocks: int = 1
    sparkSession: SparkSession | None = None  # noqa: N815 - as a frame has it


def take_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a fit of Entries store the blocks that it would store of a frame."""

    def counted(pairs: DataFrame | Entries, sizes: Sizes) -> Counts:
        return count_entries(pairs, sizes) if isinstance(pairs, Entries) else fit_counts(pairs, sizes)

    def stored(pairs, sizes, counts, factors, block_bytes, n_blocks, scratch):
        if not isinstance(pairs, Entries):
            return fit_blocks(pairs, sizes, counts, factors, block_bytes, n_blocks, scratch)
        return store_entries(pairs, sizes, factors, scratch)

    monkeypatch.setattr(als, "fit_counts", counted)
    monkeypatch.setattr(als, "fit_blocks", stored)


def count_entries(entries: Entries, sizes: Sizes) -> Counts:
    """What `fit_counts` gives of a frame of these entries."""
    rows, cols = np.nonzero(entries.matrix)
    n_rows = {"users": (rows, sizes.n_user_rows), "items": (cols, sizes.n_item_rows)}
    return {side: np.bincount(of_side, minlength=n) for side, (of_side, n) in n_rows.items()}


def store_entries(entries: Entries, sizes: Sizes, factors: int, scratch: Scratch) -> tuple[Side, Side]:
    """What `fit_blocks` gives of a frame of these entries, cut into `n_blocks` of a side."""
    counts = count_entries(entries, sizes)
    n_rows, n_cols = entries.matrix.shape
    matrix = np.pad(entries.matrix, ((0, sizes.n_user_rows - n_rows), (0, sizes.n_item_rows - n_cols)))
    sides = []
    for name, of_side, n_entities in (("users", matrix, sizes.n_users), ("items", matrix.T, sizes.n_items)):
        starts = dealt_out(counts[name], len(of_side), n_entities, entries.n_blocks, factors)
        side = Side(name, starts, n_entities, {})
        filled = {}
        for number, (first, end) in enumerate(pairwise(starts)):
            rows, cols = np.nonzero(of_side[first:end])
            if len(rows):
                indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=end - first))])
                arrays = indptr, cols.astype(np.int32), of_side[first:end][rows, cols]
                for part, array in zip(("indptr", "cols", "weights"), arrays, strict=True):
                    scratch.write(blocks._name(name, number, part), array)
                filled[number] = blocks._sha256(scratch, side, number)
        sides.append(replace(side, filled=filled))
    users, items = sides
    return users, items


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
