"""Catalogue data of items for the small runs of a validation, on the driver: texts, attributes, times of creation.

Owns: how much of it a trial takes.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.als.attributes import attribute_pairs
from recsys_spark.context import Context
from recsys_spark.item_cf.text_neighbors import Vocabulary, fit_token_pairs
from recsys_spark.numeric.ragged import offsets
from recsys_spark.numeric.sparse import Csr
from recsys_spark.retrieval.declared import check_params
from recsys_spark.validation.grid import ATTRIBUTES


class ItemFacts(NamedTuple):
    """Catalogue data that all small runs share.

    n_items: indexed ones.  texts, attributes: as in `TrialLog`.  known_at: which items the catalogue has at a time,
    bool (n_items,).
    """

    n_items: int
    texts: Csr | None
    attributes: Csr | None
    known_at: Callable[[datetime], np.ndarray]


def item_facts(inputs: Mapping[str, DataFrame], context: Context) -> ItemFacts:
    """The catalogue data that all small runs share; inputs: items, item_index."""
    n_items = inputs["item_index"].count()
    texts, attributes = _texts(inputs, context, n_items), _attributes(inputs, context, n_items)
    return ItemFacts(n_items, texts, attributes, _catalogue(inputs, n_items))


def _catalogue(inputs: Mapping[str, DataFrame], n_items: int) -> Callable[[datetime], np.ndarray]:
    """Which items the catalogue has at a time, bool (n_items,): created before it, or without a time of creation.

    The arrival of a snapshot does not count: the first one brings all items at once, however old they are.
    """
    known = inputs["items"].select("item_id", F.unix_micros("created_at").alias("created"))
    table = known.join(inputs["item_index"].select("item_id", "item_idx"), on="item_id", how="inner").toArrow()
    idx, created = table["item_idx"].to_numpy(), table["created"].fill_null(np.iinfo(np.int64).min).to_numpy()

    def known_at(time: datetime) -> np.ndarray:
        found = np.zeros(n_items, bool)
        found[idx[created < time.timestamp() * 1_000_000]] = True
        return found

    return known_at


_MAX_TEXTS = 200_000  # items whose texts the driver holds
_MAX_PRODUCTS = 5e9  # products of pairs of items that share a word: more take minutes in a trial


def _texts(inputs: Mapping[str, DataFrame], context: Context, n_items: int) -> Csr | None:
    """TF-IDF weights, (n_tokens, n_items), as the source `content` has them."""
    config = context.config
    if "content" not in config.sources.enabled or n_items > _MAX_TEXTS:
        return None
    params: Any = check_params(config)["content"]
    items = inputs["items"].join(inputs["item_index"].select("item_id", "item_idx"), on="item_id", how="inner")
    pairs = fit_token_pairs(items, Vocabulary(params.fields, params.min_df, params.max_df_ratio))
    table = pairs.select("row_idx", "col_idx", "weight").toArrow()
    if not table.num_rows:
        return None
    rows, cols, weights = (table[name].to_numpy() for name in ("row_idx", "col_idx", "weight"))
    texts = _matrix(rows, cols, weights, n_items)
    return texts if float(np.sum(texts.lengths.astype(np.float64) ** 2)) <= _MAX_PRODUCTS else None


def _attributes(inputs: Mapping[str, DataFrame], context: Context, n_items: int) -> Csr | None:
    """Which item has which value, as the step `als` has them; None where there are none, or too many for a trial."""
    config = context.config
    if "als" not in config.sources.enabled:
        return None
    names = config.als.item_attributes or (ATTRIBUTES if "als.item_attributes" in config.validation.auto else [])
    if not names:
        return None
    index = inputs["item_index"].select("item_id", F.col("item_idx").alias("idx"))
    pairs = attribute_pairs(inputs["items"], index, "item_id", names).limit(config.validation.max_pairs + 1)
    table = pairs.toArrow()
    if not 0 < table.num_rows <= config.validation.max_pairs:
        return None
    rows, cols = (table[name].to_numpy() for name in ("attribute_idx", "idx"))
    return _matrix(rows, cols, np.ones(len(rows), np.float32), n_items)


def _matrix(rows: np.ndarray, cols: np.ndarray, values: np.ndarray, n_cols: int) -> Csr:
    order = np.lexsort((cols, rows))
    indptr = offsets(np.bincount(rows))
    return Csr(indptr, cols[order].astype(np.int32), values[order], n_cols)
