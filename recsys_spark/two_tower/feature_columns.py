"""The features that the towers take, by the names in [two_tower]: as columns of one frame, and what is fitted of them.

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

KNOWN_ID = "known_id"  # of an item that somebody had: what is not learnt says nothing

_MAPS = ("vectors", "attributes")
# Sums of doubles depend on the order of the rows; so many decimals do not, and are more than the towers notice.
_DECIMALS = 6


def user_columns(tables: Mapping[str, DataFrame], settings: TwoTower) -> DataFrame:
    """What the user tower is to take, of the tables as a step reads them."""
    return feature_columns(
        tables["user_index"], tables["user_features"], tables["users"], "user", settings.user_features
    )


def item_columns(tables: Mapping[str, DataFrame], settings: TwoTower) -> DataFrame:
    """What the item tower is to take, likewise."""
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
    come from engagement: null for an item that nobody had, of which they say nothing, as is `known_id`, else its id.
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
    """What a tower takes of `frame`, as `feature_columns` makes it, in the order of `names` and `engaged`.

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
    # tower_inputs.squash
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
