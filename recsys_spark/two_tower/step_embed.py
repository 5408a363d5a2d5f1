"""Embeds every indexed user and item with the two-tower model of the day, also those that the log knows nothing of.

Owns: that the model is the one that was trained, and takes what the settings ask for; and how far embeddings moved
since the base run.
"""

import logging
from collections.abc import Sequence
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_spark.context import Context
from recsys_spark.errors import ContractError, DamagedError
from recsys_spark.signals.event_weights import exact_sum
from recsys_spark.signals.visibility import shown_items
from recsys_spark.two_tower.embedding import broadcast_model, embed_items, embed_users, fit_item_vectors
from recsys_spark.two_tower.feature_columns import item_columns, user_columns
from recsys_spark.two_tower.kernels.inputs import TowerInputs
from recsys_spark.two_tower.kernels.model_file import TowerModel, load_model
from recsys_spark.two_tower.training_job import shape_of
from recsys_spark.warehouse.blobs import read_blob
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import ITEM_EMBEDDINGS, USER_EMBEDDINGS

_log = logging.getLogger(__name__)

_TABLES = (USER_EMBEDDINGS, ITEM_EMBEDDINGS)


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`user_embeddings` and `item_embeddings`, without rows if the run has no model.

    Figures: n_items; n_items_without_embedding, whose vectors are zeros, which a gate refuses; n_users;
    n_users_without_embedding, who are left out; drift_cosine, the mean cosine of an item's embedding with that of the
    base run, where the model started from the base run's.
    Raises DamagedError if the model is not the one that was trained, or takes other features than the settings name.
    """
    row: Any = inputs["two_tower_models"].first()
    if row is None:
        schemas = {table.name: spark_schema(table, without=("run_id",)) for table in _TABLES}
        return {name: context.spark.createDataFrame([], schema) for name, schema in schemas.items()}
    users, items = _embedded(row["rel_path"], row["model_version"], inputs, context)
    shown = shown_items(inputs, context.config, context.cutoff).select("item_idx", F.lit(True).alias("shown"))
    version = F.lit(row["model_version"]).alias("model_version")
    is_shown = F.coalesce("shown", F.lit(False)).alias("shown")
    return {
        "user_embeddings": users.where(_has_embedding()).select("user_id", "user_idx", "vector", "norm", version),
        "item_embeddings": items.join(shown, on="item_idx", how="left").select(
            "item_id", "item_idx", "vector", "norm", version, is_shown
        ),
    }


def _embedded(
    rel_path: str, version: str, inputs: dict[str, DataFrame], context: Context
) -> tuple[DataFrame, DataFrame]:
    """Every indexed user and item with its vector and norm, persisted on disk; sets the figures."""
    settings = context.config.two_tower
    data = read_blob(context.config.root, rel_path, version)
    model = load_model(data)
    item_rows = item_columns(inputs, settings)
    # Recent items are what the tower pools, whether or not they are a feature too.
    user_rows = user_columns(inputs, settings)
    if "recent_items" not in settings.user_features:
        user_rows = user_rows.join(inputs["user_features"].select("user_id", "recent_items"), on="user_id", how="left")
    _check_model(model, user_rows, item_rows, context)
    broadcast = broadcast_model(context.spark, data, version)
    items = embed_items(item_rows, broadcast).persist(StorageLevel.DISK_ONLY)
    users = embed_users(user_rows, broadcast, fit_item_vectors(items)).persist(StorageLevel.DISK_ONLY)
    _measure("items", items, context)
    _measure("users", users, context)
    if model.card.get("started_warm") and "base_item_embeddings" in inputs:
        _measure_drift(items, inputs["base_item_embeddings"], context)
    _log.info("step=embed %s", " ".join(f"{name}={value:g}" for name, value in context.figures.items()))
    return users, items


def _check_model(model: TowerModel, users: DataFrame, items: DataFrame, context: Context) -> None:
    """Raises DamagedError if the model has another form, or takes other features, than the settings ask for."""
    settings = context.config.two_tower
    faults = []
    if model.shape != shape_of(settings):
        faults.append(f"expected {shape_of(settings)}, got {model.shape}")
    faults += _feature_faults("user", model.user_inputs, settings.user_features, users)
    faults += _feature_faults("item", model.item_inputs, [*settings.item_features, *settings.item_history], items)
    if faults:
        raise DamagedError(
            f"model {model.version}: {'; '.join(faults)}; it was not trained with these settings: run the date again"
        )


def _feature_faults(kind: str, inputs: TowerInputs, names: Sequence[str], frame: DataFrame) -> list[str]:
    found = [field.name for field in inputs.fields if field.kind != "id"]
    # A vector that no row had is not in the model, see `feature_columns.fit_inputs`.
    asked = [name for name in names if name in found or not _is_vector(frame.schema[name].dataType)]
    if found != asked:
        return [f"expected the {kind} features {', '.join(asked)}, got {', '.join(found) or 'none'}"]
    try:
        inputs.encode(frame.limit(0).toArrow())
    except ContractError as err:
        return [str(err)]
    return []


def _is_vector(found: T.DataType) -> bool:
    return isinstance(found, T.ArrayType) and isinstance(found.elementType, T.NumericType)


def _has_embedding() -> Column:
    return F.col("norm") > 0


def _measure(name: str, embedded: DataFrame, context: Context) -> None:
    counted: Any = embedded.agg(F.count("*").alias("n"), F.count(F.when(_has_embedding(), 1)).alias("n_with")).first()
    context.figures[f"n_{name}"] = float(counted["n"])
    context.figures[f"n_{name}_without_embedding"] = float(counted["n"] - counted["n_with"])


def _measure_drift(items: DataFrame, base: DataFrame, context: Context) -> None:
    """The figure drift_cosine; none if no item with an embedding is in both runs."""
    before = base.where(_has_embedding()).select(
        "item_id", F.col("vector").alias("base_vector"), F.col("norm").alias("base_norm")
    )
    both = items.where(_has_embedding()).join(before, on="item_id", how="inner")
    products = F.zip_with("vector", "base_vector", lambda now, then: now.cast("double") * then)
    cosine = F.aggregate(products, F.lit(0.0), lambda total, one: total + one) / F.col("norm") / F.col("base_norm")
    # The same bits for every order of the rows.
    found: Any = both.agg(exact_sum(cosine).alias("total"), F.count("*").alias("n")).first()
    if found["n"]:
        context.figures["drift_cosine"] = found["total"] / found["n"]
