"""Low-pass graph filter (truncated SVD) over the cluster: products with the matrix and its transpose, in ALS's blocks.

Owns: the matrix that is filtered, the order of the products, and the vectors that come of them.  What a product sends,
and what bounds a task's memory, is as in a fit by ALS (`als.exchange`).
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.als.blocks import Sizes, fit_blocks, fit_counts
from recsys_spark.als.exchange import Factors, Half, read_factors, solve_half, sum_gramians
from recsys_spark.als.fit import block_bytes_for, exchange_for, store_start
from recsys_spark.config.models import Als
from recsys_spark.low_pass.kernels.graph_filter import Product, orthonormal, singular
from recsys_spark.signals.event_weights import exact_sum
from recsys_spark.warehouse.scratch import Scratch

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Filtered:
    """users: user_idx and vector of everybody with an entry.  items: float32 (n_items, f), 0 for what nobody has.

    A score is their product.  singular: the singular values that are kept, greatest first.
    """

    users: DataFrame
    items: np.ndarray
    singular: np.ndarray


def fit_low_pass(
    pairs: DataFrame,
    n_users: int,
    n_items: int,
    exponent: float,
    passes: int,
    exchange: Als,
    seed: int,
    scratch: Scratch,
) -> Filtered:
    """Vectors of users and items whose products are the filter's scores (`low_pass.kernels.graph_filter`).

    pairs: user_idx, item_idx (int), weight (above 0), unique.  exponent: of an item's sum of weights in its score, 0.5
    as in the formula; less lets rare items up.  passes: over both sides.  exchange: factors, the number of directions,
    and how the products travel.
    """
    spark = pairs.sparkSession
    pairs = pairs.select("user_idx", "item_idx", F.col("weight").cast("double").alias("weight")).persist()
    sums = pairs.groupBy("item_idx").agg(exact_sum(F.col("weight")).alias("total")).toArrow()
    totals = np.zeros(n_items)
    totals[sums["item_idx"].to_numpy()] = sums["total"].to_numpy()
    sizes = Sizes(n_users, n_items, n_users, n_items)
    normal = _normalised(pairs)
    counts = fit_counts(normal, sizes)
    n_pairs = int(counts["users"].sum())
    kind = exchange_for(n_pairs, sizes, exchange)
    scratch.drop()
    n_blocks = 1 if kind == "local" else 0
    bytes_of_block = block_bytes_for(kind, exchange)
    users, items = fit_blocks(normal, sizes, counts, exchange.factors, bytes_of_block, n_blocks, scratch)
    _log.info("phase=low_pass exchange=%s n_pairs=%d blocks=%d+%d", kind, n_pairs, users.n_blocks, items.n_blocks)
    store_start(spark, Factors(items, 0), exchange.factors, seed, None, scratch)
    for number in range(1, 2 * passes + 2):
        solved, fixed = (users, items) if number % 2 else (items, users)
        half = Half(Factors(solved, number), Factors(fixed, number - 1), Product(turned=bool(number % 2)))
        solve_half(spark, kind, half, exchange.factors, scratch)
    of_users, of_items = Factors(users, 2 * passes + 1), Factors(items, 2 * passes)
    values, turn = singular(sum_gramians(scratch, of_users, False, exchange.factors))
    to_basis = orthonormal(sum_gramians(scratch, of_items, False, exchange.factors)) @ turn
    vectors = read_factors(scratch, of_items, exchange.factors) @ to_basis.astype(np.float32)
    scaled = (vectors * totals[:, None] ** exponent).astype(np.float32)
    return Filtered(_user_vectors(spark.range(0, max(1, users.n_blocks), 1), of_users, turn, scratch), scaled, values)


def _normalised(pairs: DataFrame) -> DataFrame:
    """The pairs with the entries of A as their weights."""
    of_users = pairs.groupBy("user_idx").agg(exact_sum(F.col("weight")).alias("of_user"))
    of_items = pairs.groupBy("item_idx").agg(exact_sum(F.col("weight")).alias("of_item"))
    joined = pairs.join(of_users, on="user_idx", how="inner").join(of_items, on="item_idx", how="inner")
    # A sum that is rounded to 0 is of weights that have decayed to nothing: it has no direction.
    known = joined.where((F.col("of_user") > 0) & (F.col("of_item") > 0))
    value = F.col("weight") / F.sqrt(F.col("of_user") * F.col("of_item"))
    return known.select("user_idx", "item_idx", value.cast("float").alias("weight"))


def _user_vectors(blocks: DataFrame, of_users: Factors, turn: np.ndarray, scratch: Scratch) -> DataFrame:
    """user_idx and vector, in the basis of the singular vectors, of all who have any."""
    n_blocks, turned = of_users.side.n_blocks, turn.astype(np.float32)
    return blocks.repartition(max(1, n_blocks), "id").mapInArrow(
        _read_vectors(of_users, n_blocks, turned, scratch), "user_idx int, vector array<float>"
    )


def _read_vectors(
    of_users: Factors, n_blocks: int, turned: np.ndarray, scratch: Scratch
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for block in (number for number in batch["id"].to_pylist() if number < n_blocks):
                vectors = scratch.read(of_users.name(block)) @ turned
                known = np.flatnonzero(vectors.any(axis=1))
                offsets = np.arange(len(known) + 1, dtype=np.int32) * vectors.shape[1]
                yield pa.RecordBatch.from_pydict(
                    {
                        "user_idx": pa.array((known + of_users.side.starts[block]).astype(np.int32)),
                        "vector": pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors[known].ravel())),
                    }
                )

    return read
