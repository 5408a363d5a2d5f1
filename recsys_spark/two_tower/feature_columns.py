"""Feature columns of the towers, by the names in [two_tower]: one frame of them, and what the encoding fits on it.

Owns: what a name means, and mean and deviation of the numbers.

A name is a column of `user_features` or `item_features`, else a column of the catalogue; `vectors.NAME` and
`attributes.NAME` are entries of the catalogue's maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_spark.config.models import TwoTower
from recsys_spark.errors import ConfigError
from recsys_spark.two_tower.kernels.inputs import Field, Kind, TowerInputs

KNOWN_ID = "known_id"  # the id of an item that somebody had, null for others: their ids are not learnt

_MAPS = ("vectors", "attributes")
# Sums of doubles depend on the order of the rows; rounded to so many decimals they do not, and towers notice no more.
_DECIMALS = 6


def user_columns(tables: Mapping[str, DataFrame], settings: TwoTower) -> DataFrame:
    """The feature columns of the user tower, from the tables as a step reads them."""
    return feature_columns(
        tables["user_index"], tables["user_features"], tables["users"], "user", settings.user_features
    )


def item_columns(tables: Mapping[str, DataFrame], settings: TwoTower) -> DataFrame:
    """The feature columns of the item tower, likewise."""
    index, features, catalogue = tables["item_index"], tables["item_features"], tables["items"]
    return feature_columns(index, features, catalogue, "item", settings.item_features, settings.item_history)


def feature_columns(
    index: DataFrame,
    features: DataFrame,
    catalogue: DataFrame,
    kind: str,
    names: Sequence[str],
    engaged: Sequence[str] = (),
) -> DataFrame:
    """One row per indexed user or item: its idx, its id, and a column for each of `names` and `engaged`.

    kind: user or item.  index, features, catalogue: the tables as the step reads them.  engaged: features of items that
    come from engagement; for an item that nobody had they are null, and so is `known_id`, which else is the item's id.
    Raises ConfigError if a name means nothing, or a column of a type that no tower takes.
    """
    key = f"{kind}_id"
    chosen = {name: _column(name, features, catalogue, kind) for name in (*names, *engaged)}
    if kind == "item":
        had = F.col("features.n_events") > 0
        chosen |= {name: F.when(had, chosen[name]) for name in engaged}
        chosen[KNOWN_ID] = F.when(had, F.col(key))
    joined = (
        index.alias("index")
        .join(features.alias("features"), on=key, how="left")
        .join(catalogue.alias("catalogue"), on=key, how="left")
    )
    frame = joined.select(f"{kind}_idx", key, *[column.alias(name) for name, column in chosen.items()])
    for name in (*names, *engaged):
        _kind(frame.schema[name], (), kind)
    return frame


def _column(name: str, features: DataFrame, catalogue: DataFrame, kind: str) -> Column:
    start, _, rest = name.partition(".")
    if start in _MAPS and rest:
        return F.try_element_at(F.col(f"catalogue.{start}"), F.lit(rest))
    for place, frame in (("features", features), ("catalogue", catalogue)):
        if name in frame.columns:
            return F.col(f"{place}.{name}")
    known = [column for frame in (features, catalogue) for column in frame.columns]
    raise ConfigError(
        f"[two_tower] {kind}_features: expected columns of {kind}_features or of the {kind} catalogue, vectors.NAME or "
        f"attributes.NAME, got {name!r}; known are {', '.join(sorted(set(known)))}"
    )


def fit_inputs(
    frame: DataFrame,
    kind: str,
    names: Sequence[str],
    words: Sequence[str],
    n_buckets: int,
    n_ids: int,
    engaged: Sequence[str] = (),
) -> TowerInputs:
    """The inputs of a tower from `frame`, as `feature_columns` makes it, in the order of `names` and `engaged`.

    words: those of `names` whose text counts word by word.  n_ids: rows of the table of hashed ids, 0 for none.
    """
    kinds = {name: _kind(frame.schema[name], words, kind) for name in (*names, *engaged)}
    measures = [measure for name, one in kinds.items() for measure in _measures(name, one)]
    row: Any = frame.agg(*measures).first() if measures else {}
    fields = [replace(_field(name, one, row), engaged=name in engaged) for name, one in kinds.items()]
    if n_ids:
        fields.append(Field(KNOWN_ID, "id"))
    # A vector that no row has would be an input without a width.
    return TowerInputs(tuple(one for one in fields if one.kind != "vector" or one.width), n_buckets, n_ids)


def _kind(field: T.StructField, words: Sequence[str], kind: str) -> Kind:
    if isinstance(field.dataType, T.StringType):
        return "words" if field.name in words else "category"
    if isinstance(field.dataType, T.NumericType | T.BooleanType):
        return "number"
    if isinstance(field.dataType, T.ArrayType):
        element = field.dataType.elementType
        if isinstance(element, T.StringType):
            return "values"
        if isinstance(element, T.NumericType):
            return "vector"
        if isinstance(element, T.StructType) and element.names == ["category", "share"]:
            return "shares"
    raise ConfigError(
        f"[two_tower] {kind}_features: expected numbers, text, lists of text, vectors or shares, got {field.name!r} of "
        f"type {field.dataType.simpleString()}; leave it out"
    )


def _measures(name: str, kind: Kind) -> list[Column]:
    column = F.col(f"`{name}`")
    if kind == "vector":
        return [F.max(F.size(column)).alias(f"{name} width")]
    if kind != "number":
        return []
    number = column.cast("double")
    # kernels.inputs.squash in Spark
    squashed = F.when(F.abs(number) < float("inf"), F.signum(number) * F.log1p(F.abs(number)))
    return [
        F.round(F.avg(squashed), _DECIMALS).alias(f"{name} mean"),
        F.round(F.stddev_pop(squashed), _DECIMALS).alias(f"{name} deviation"),
    ]


def _field(name: str, kind: Kind, row: Mapping[str, Any]) -> Field:
    if kind == "vector":
        return Field(name, kind, width=max(0, cast(int, row[f"{name} width"] or 0)))
    if kind == "number":
        return Field(name, kind, mean=row[f"{name} mean"] or 0.0, deviation=row[f"{name} deviation"] or 1.0)
    return Field(name, kind)
