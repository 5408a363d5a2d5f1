"""Feature groups as plug-ins: how features are declared, discovered and computed; each is a file in `features/groups`.

A group declares its features as data, `GROUP`, and says in `compute` which rows they aggregate.  A feature is one entry
of `GROUP.features`; the table contract, the step and the documentation follow from it.

Owns: the types in which features are declared, the discovery of groups, and the contracts extended by them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Literal, Protocol, cast

from recsys_spark.config.schema import Config
from recsys_spark.errors import ContractError
from recsys_spark.features import groups as folder
from recsys_spark.warehouse.contract import Column, ListOf, Table, Type
from recsys_spark.warehouse.tables import RANKING_EXAMPLES, TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FeatureTable = Literal["user_features", "item_features"]

# Days before the date that are counted: one, whole weeks, in which every weekday counts the same, and a quarter.
COUNTED_DAYS = (1, 7, 28, 90)
RECENT_DAYS = 28

INDEX = "index"  # the rows of a feature that is an expression over the index and the group's other features


@dataclass(frozen=True)
class Feature:
    """One feature: its column, and the aggregate that computes it.

    over: name of the rows that it aggregates, one of those that the group's `compute` prepares; INDEX: the one row of
    the id that `compute` is given, with the group's features over other rows beside it.
    aggregate: SQL aggregate expression over the columns of those rows; over INDEX a plain expression.
    null_when: when the value is null; "": never, an id without rows then has 0, or an empty list.
    """

    name: str
    type: Type
    doc: str
    over: str
    aggregate: str
    unit: str = ""
    null_when: str = ""
    check: str = ""

    @property
    def column(self) -> Column:
        """The column of the contract."""
        doc = f"{self.doc}; null: {self.null_when}" if self.null_when else self.doc
        # Delta refuses a row whose condition is null.
        check = f"{self.name} IS NULL OR {self.check}" if self.null_when and self.check else self.check
        return Column(self.name, self.type, doc, self.unit, nullable=bool(self.null_when), check=check)


@dataclass(frozen=True)
class Group:
    """The features that one file adds to `user_features` or `item_features`."""

    table: FeatureTable
    features: tuple[Feature, ...]


@dataclass(frozen=True)
class RowSource:
    """Rows that features aggregate, and the column of the index (an id or an idx) that says which id they belong to."""

    frame: "DataFrame"
    key: str


class GroupModule(Protocol):
    """What a file in `features/groups` has to define."""

    GROUP: Group

    def compute(
        self, index: "DataFrame", inputs: "dict[str, DataFrame]", config: Config, cutoff: datetime
    ) -> "DataFrame":
        """`index` with the group's features as of `cutoff` beside its columns.

        index: one row per indexed id: the id, its idx, for items what the catalogue says of it (null: nothing), and
        further columns that a group passes on.  inputs: the tables that the plan gives to the step `features`.
        """


@cache
def group_modules() -> dict[str, GroupModule]:
    """The groups by name, in the order of their names."""
    names = sorted(module.name for module in iter_modules(folder.__path__))
    return {name: cast(GroupModule, import_module(f"{folder.__name__}.{name}")) for name in names}


@cache
def declared_tables() -> dict[str, Table]:
    """Every table of the product, with the feature tables extended by the columns of the groups."""
    groups = {name: module.GROUP for name, module in group_modules().items()}
    tables = {name: extended_table(table, groups) for name, table in TABLES.items()}
    examples = RANKING_EXAMPLES.name
    return tables | {examples: with_features(tables[examples], tables["user_features"], tables["item_features"])}


def with_features(examples: Table, users: Table, items: Table) -> Table:
    """`examples` with user_... and item_... of every feature, null where nothing was known, before its last column."""
    added = [
        replace(column, name=f"{side}_{column.name}", nullable=True, check="")
        for side, table in (("user", users), ("item", items))
        for column in table.columns[:-1]
        if column.name != f"{side}_id"
    ]
    return replace(examples, columns=(*examples.columns[:-1], *added, examples.columns[-1]))


def extended_table(table: Table, groups: Mapping[str, Group]) -> Table:
    """`table` with the columns that `groups` add to it, before its last one, run_id.

    Raises ContractError if two columns have one name.
    """
    columns = {column.name: "warehouse/tables.py" for column in table.columns}
    added = []
    for name, group in groups.items():
        for feature in group.features if group.table == table.name else ():
            if feature.name in columns:
                raise ContractError(
                    f"features/groups/{name}.py: expected feature names that are new to {table.name}, "
                    f"got {feature.name!r}, which {columns[feature.name]} has; rename one of them"
                )
            columns[feature.name] = f"features/groups/{name}.py"
            added.append(feature.column)
    return replace(table, columns=(*table.columns[:-1], *added, table.columns[-1])) if added else table


def window_text(n_days: int) -> str:
    """How the documentation of a feature names its window."""
    return "on the UTC day before the date" if n_days == 1 else f"in the {n_days} UTC days before the date"


def aggregate_group(index: "DataFrame", group: Group, rows: Mapping[str, RowSource]) -> "DataFrame":
    """`index` with the features of `group` for each of its ids; a feature replaces a column of its name.

    rows: by the name that features give in `over`.  An id without rows gets nulls, zeros or empty lists by the
    feature's null rule.
    """
    from pyspark.sql import functions as F

    columns, features = index.columns, index
    for name, source in rows.items():
        aggregates = [F.expr(_typed(feature)) for feature in group.features if feature.over == name]
        features = features.join(source.frame.groupBy(source.key).agg(*aggregates), on=source.key, how="left")
    aggregated = [feature for feature in group.features if feature.over != INDEX]
    features = features.selectExpr(*columns, *[_filled(feature) for feature in aggregated])
    names = {feature.name for feature in group.features}
    return features.selectExpr(
        *[column for column in columns if column not in names],
        *[_typed(feature) if feature.over == INDEX else feature.name for feature in group.features],
    )


def _typed(feature: Feature) -> str:
    """SQL of the feature in its declared type."""
    from recsys_spark.warehouse.spark_check import spark_type

    # The name of a list type does not say whether elements may be null, and no cast may rule nulls out.
    return f"CAST({feature.aggregate} AS {spark_type(feature.type).simpleString()}) AS {feature.name}"


def _filled(feature: Feature) -> str:
    """SQL of the feature's column; if it is never null, an id without rows has 0 or an empty list."""
    if feature.null_when:
        return feature.name
    return f"coalesce({feature.name}, {'array()' if isinstance(feature.type, ListOf) else '0'}) AS {feature.name}"
