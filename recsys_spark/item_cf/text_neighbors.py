"""Text neighbours of items (TF-IDF cosine): the tokens of a catalogue as a sparse matrix, and its nearest columns.

Owns: which tokens count, their numbers, and the way into the item-item kernel.

Rows of the matrix are tokens and columns are items, as rows are users in item-item CF: the co-occurrence of two items
over tokens, divided by their lengths, is the cosine of their TF-IDF vectors.  A row costs the square of its entries,
which `max_df_ratio` bounds; memory is bounded as for any other fit (`item_cf.neighbors`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.item_cf.kernels.similarity import Similarity
from recsys_spark.item_cf.kernels.tfidf import TITLE, tfidf_weights, token_counts
from recsys_spark.item_cf.neighbors import Limits, fit_neighbors
from recsys_spark.signals.dense_index import fit_index
from recsys_spark.warehouse.tables import ITEM_CATEGORIES, ITEM_LISTS

_COLUMNS = (TITLE, *ITEM_CATEGORIES)


@dataclass(frozen=True)
class Vocabulary:
    """fields: what is read of an item: title, category, brand, tags, or an attribute's name.

    min_df, max_df_ratio: a token counts if at least so many items, and at most this share of those with text, have it.
    """

    fields: Sequence[str]
    min_df: int
    max_df_ratio: float


def fit_text_neighbors(
    items: DataFrame, vocabulary: Vocabulary, num_neighbors: int, block_bytes: int, listed: np.ndarray
) -> DataFrame:
    """The items nearest to each by the cosine of their TF-IDF vectors: col_idx, neighbors (best first), scores.

    items: rows of the catalogue with their item_idx.  listed: item_idx of those that may stand in a list.
    Blocks of rows stay in the cache until the caller clears it.
    """
    cosine = Similarity("cosine", 1.0, 0.0, 0.0, 0.0, 1, num_neighbors)
    # No row is cut to its newest items: that would change the vectors whose cosine is meant.
    whole = Limits(np.iinfo(np.int32).max, block_bytes)
    return fit_neighbors(fit_token_pairs(items, vocabulary), cosine, whole, listed)


def fit_token_pairs(items: DataFrame, vocabulary: Vocabulary) -> DataFrame:
    """The TF-IDF matrix: row_idx (of the token, dense), col_idx (item_idx), weight, last_time (all the same).

    Rows are in the order of the tokens' hashes: in that of the tokens all categories would be in one block of rows,
    and they are the longest rows.  Frames stay in the cache until the caller clears it.
    """
    counts = _counts(items, vocabulary.fields).persist(StorageLevel.DISK_ONLY)
    n_items = counts.count()
    pairs = counts.select("item_idx", F.explode("tokens").alias("token", "tf"))
    telling = F.col("df").between(vocabulary.min_df, vocabulary.max_df_ratio * n_items)
    tokens = pairs.groupBy("token").agg(F.count(F.lit(1)).alias("df")).where(telling)
    tokens = tokens.select("token", "df", F.md5("token").alias("hash"))
    numbers = fit_index(tokens, "hash", "row_idx").frame
    numbered = tokens.join(numbers, on="hash", how="inner").select("row_idx", "token", "df")
    weighted = (
        pairs.join(numbered, on="token", how="inner")
        .select("row_idx", F.col("item_idx").alias("col_idx"), "tf", "df")
        .mapInArrow(_weigh(n_items), "row_idx int, col_idx int, weight float")
    )
    return weighted.withColumn("last_time", F.timestamp_seconds(F.lit(0))).persist(StorageLevel.DISK_ONLY)


def _counts(items: DataFrame, fields: Sequence[str]) -> DataFrame:
    """item_idx and tokens (map<string, int>) of every item that has any."""
    texts = [_texts(name).alias(f"field_{number}") for number, name in enumerate(fields)]
    counted = items.select("item_idx", *texts).mapInArrow(_count(fields), "item_idx int, tokens map<string, int>")
    return counted.where(F.size("tokens") > 0)


def _texts(name: str) -> Column:
    if name in ITEM_LISTS:
        return F.col(name)
    return F.array(F.col(name) if name in _COLUMNS else F.try_element_at("attributes", F.lit(name)))


def _count(fields: Sequence[str]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            values = {name: batch[f"field_{number}"] for number, name in enumerate(fields)}
            yield pa.RecordBatch.from_pydict({"item_idx": batch["item_idx"], "tokens": token_counts(values)})

    return count


def _weigh(n_items: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def weigh(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            weights = tfidf_weights(batch["tf"].to_numpy(), batch["df"].to_numpy(), n_items)
            yield pa.RecordBatch.from_pydict(
                {"row_idx": batch["row_idx"], "col_idx": batch["col_idx"], "weight": pa.array(weights)}
            )

    return weigh
