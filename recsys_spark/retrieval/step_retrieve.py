"""Retrieves candidates: every enabled source proposes its lists.

Owns: what a source is given, and the check that its lists bear its name.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.context import Context
from recsys_spark.errors import ContractError
from recsys_spark.retrieval.declared import SourceContext, check_params, load
from recsys_spark.retrieval.user_lists import COMPLETED, ForMany, Personal, fuses_scores, propose
from recsys_spark.warehouse.spark_check import check_schema
from recsys_spark.warehouse.tables import TABLES

_log = logging.getLogger(__name__)

_TABLE = TABLES["source_candidates"]


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`source_candidates`: the lists of all enabled sources; figure n_sources.

    Raises ContractError if a source reads what the plan does not give it or returns other columns than the table's; a
    row that does not bear its source's name fails the write.
    """
    found = {name: _proposals(name, inputs, context) for name in check_params(context.config)}
    context.figures["n_sources"] = float(len(found))
    _log.info("step=retrieve phase=plan n_sources=%d", len(found))
    personal = {name: one for name, one in found.items() if isinstance(one, Personal)}
    for_many = [one.lists.persist() for one in found.values() if isinstance(one, ForMany)]
    frames = [*for_many, *(one for one in found.values() if isinstance(one, DataFrame))]
    if personal:
        for_all = _first_items(for_many) if fuses_scores(context.config.candidates) else None
        frames.append(lists_of(personal, inputs, context, for_all))
    return {"source_candidates": reduce(DataFrame.unionByName, frames)}


def lists_of(
    personal: Mapping[str, Personal],
    inputs: Mapping[str, DataFrame],
    context: SourceContext,
    for_all: np.ndarray | None = None,
) -> DataFrame:
    """The lists of sources that score users, in one pass over these."""
    n_users, n_items = inputs["user_index"].count(), inputs["item_index"].count()
    candidates, for_all = context.config.candidates, np.zeros(0, np.int32) if for_all is None else for_all
    return propose(personal, inputs["interactions"], n_users, n_items, candidates, context.cutoff, for_all)


def _first_items(for_many: Sequence[DataFrame]) -> np.ndarray:
    """The first items of lists for everybody, which every source is to score, int32, ascending."""
    first = F.explode(F.slice("items.item_idx", 1, COMPLETED)).alias("item_idx")
    parts = [one.where(F.col("user_idx").isNull() & F.col("segment").isNull()).select(first) for one in for_many]
    if not parts:
        return np.zeros(0, np.int32)
    found = reduce(DataFrame.unionByName, parts).toArrow()["item_idx"].to_numpy()
    return np.unique(found).astype(np.int32)


def _proposals(name: str, inputs: dict[str, DataFrame], context: Context) -> DataFrame | ForMany | Personal:
    """What source `name` gives, which sees no table but those in its READS."""
    source = load(name)
    missing = sorted(set(source.READS) - set(inputs))
    if missing:
        raise ContractError(
            f"retrieval/sources/{name}.py READS: expected tables that the step retrieve reads "
            f"({', '.join(sorted(inputs))}), got {', '.join(missing)}; add them to the step in recsys_spark/plan.py"
        )
    params = check_params(context.config)[name]
    proposed = source.generate({table: inputs[table] for table in source.READS}, params, context)
    if isinstance(proposed, Personal):
        return proposed
    rows = proposed.lists if isinstance(proposed, ForMany) else proposed
    check_schema(rows, _TABLE, without=("run_id",))
    bears_name = (F.col("source") == name) | F.col("source").startswith(f"{name}/")
    refusal = F.raise_error(
        F.concat(
            F.lit(f"retrieval/sources/{name}.py: expected lists called {name} or {name}/..., got "),
            F.coalesce("source", F.lit("null")),
            F.lit("; correct their names"),
        )
    )
    checked = F.when(bears_name, F.col("source")).otherwise(refusal).alias("source")
    named = rows.select(checked, "user_idx", "segment", "items", "n_own", "mean", "deviation")
    return ForMany(named) if isinstance(proposed, ForMany) else named
