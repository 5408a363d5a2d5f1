"""Item traits for the blend: ids, categories and brands for rules; vectors, categories and popularity for diversity.

Owns: their collection on the driver, bounded, and where vectors come from.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.ann.exact_search import MAX_VECTOR_BYTES
from recsys_spark.blend.compile_rules import Targets
from recsys_spark.blend.kernels.diversity import Diversity, ItemTraits
from recsys_spark.spark.broadcast import MAX_ID_BYTES, check_bytes

_VECTORS = ("item_factors", "item_embeddings")


def fit_rule_targets(inputs: Mapping[str, DataFrame]) -> Targets:
    """Every item with what rules may name, on the driver.  Raises KernelError if ids have more than MAX_ID_BYTES."""
    known = inputs["items"].select("item_id", "category", "brand")
    items = inputs["item_index"].select("item_idx", "item_id").join(known, on="item_id", how="left").persist()
    size: Any = items.agg(F.sum(F.octet_length("item_id")).alias("n_bytes")).first()
    check_bytes("blend", "ids of items that rules may name", size["n_bytes"] or 0, MAX_ID_BYTES, "the number of items")
    table = items.toArrow()
    items.unpersist()
    texts = [table[name].to_pylist() for name in ("item_id", "category", "brand")]
    return Targets(table["item_idx"].to_numpy(), *texts)


def fit_traits(inputs: Mapping[str, DataFrame], wanted: Diversity) -> tuple[ItemTraits, pa.Array | None]:
    """What `wanted` needs to know of all items, on the driver, and the names of the categories' codes.

    Vectors are the factors of `als`; where that is off, embeddings.  Raises KernelError if they are beyond
    MAX_VECTOR_BYTES.
    """
    n_items = _n_items(inputs)
    vectors = _fit_vectors(inputs, n_items) if wanted.mmr_weight else None
    categories = brands = names = None
    if wanted.category_cap or wanted.calibration_weight or wanted.brand_cap:
        catalogue = fit_rule_targets(inputs)
        categories, names = _codes(catalogue.category, catalogue.item_idx, n_items)
        brands, _ = _codes(catalogue.brand, catalogue.item_idx, n_items)
    popularity = _fit_popularity(inputs, n_items) if wanted.popularity_damping else None
    return ItemTraits(vectors, categories, brands, popularity), names


def has_room_for_vectors(inputs: Mapping[str, DataFrame]) -> bool:
    """Whether there are vectors of items, and few enough for every worker."""
    _, width = _vectors(inputs)
    return 0 < _n_items(inputs) * width * 4 <= MAX_VECTOR_BYTES


def has_room_for_categories(inputs: Mapping[str, DataFrame]) -> bool:
    """Whether any item has a category, and ids of items are few enough for the driver."""
    indexed = inputs["items"].join(inputs["item_index"].select("item_id"), on="item_id", how="left_semi")
    row: Any = indexed.agg(F.count("category").alias("n"), F.sum(F.octet_length("item_id")).alias("n_bytes")).first()
    return bool(row["n"]) and row["n_bytes"] <= MAX_ID_BYTES


def _n_items(inputs: Mapping[str, DataFrame]) -> int:
    last: Any = inputs["item_index"].agg(F.max("item_idx").alias("last")).first()
    return 0 if last["last"] is None else int(last["last"]) + 1


def _vectors(inputs: Mapping[str, DataFrame]) -> tuple[DataFrame, int]:
    """The first table of `_VECTORS` that has rows, and the length of its vectors."""
    frame = next((inputs[name] for name in _VECTORS if not inputs[name].isEmpty()), inputs[_VECTORS[0]])
    width: Any = frame.agg(F.max(F.size("vector")).alias("f")).first()
    return frame, width["f"] or 0


def _fit_vectors(inputs: Mapping[str, DataFrame], n_items: int) -> np.ndarray:
    """float32 (n_items, f), zeros for an item without a vector."""
    frame, width = _vectors(inputs)
    check_bytes("blend", "item vectors", n_items * width * 4, MAX_VECTOR_BYTES, "diversity.mmr_weight to 0")
    table = frame.select("item_idx", "vector").toArrow().combine_chunks()
    vectors = np.zeros((n_items, width), np.float32)
    flat = table["vector"].combine_chunks().flatten().to_numpy().astype(np.float32)
    vectors[table["item_idx"].to_numpy()] = flat.reshape(table.num_rows, width)
    return vectors


def _fit_popularity(inputs: Mapping[str, DataFrame], n_items: int) -> np.ndarray:
    """Each item's share of all interactions, float64 (n_items,); an item without one counts as if it had one."""
    counted = inputs["interactions"].where(F.col("n_events") > 0).groupBy("item_idx").count().toArrow()
    counts = np.ones(n_items)
    counts[counted["item_idx"].to_numpy()] = counted["count"].to_numpy()
    shares: np.ndarray = counts / max(1.0, counts.sum())
    return shares


def _codes(values: Sequence[str | None], item_idx: np.ndarray, n_items: int) -> tuple[np.ndarray, pa.Array]:
    """The code of each item's value, int32 (n_items,), -1 for none, and the names of the codes."""
    encoded = pa.array(values, pa.string()).dictionary_encode()
    codes = np.full(n_items, -1, np.int32)
    codes[item_idx] = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return codes, encoded.dictionary
