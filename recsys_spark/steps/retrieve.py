"""Lets every enabled source propose its lists.

Owns: what a source is given, and the check that its lists bear its name.  Called by the runner.
"""

import logging
from collections.abc import Mapping
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.adapters.personal import Personal, propose
from recsys_spark.errors import ContractError
from recsys_spark.sources import SourceContext, check_params, load
from recsys_spark.steps.context import Context
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.check import check_schema

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
    frames = [one for one in found.values() if isinstance(one, DataFrame)]
    if personal:
        frames.append(lists_of(personal, inputs, context))
    return {"source_candidates": reduce(DataFrame.unionByName, frames)}


def lists_of(personal: Mapping[str, Personal], inputs: Mapping[str, DataFrame], context: SourceContext) -> DataFrame:
    """The lists of sources that score users, in one pass over these."""
    n_users, n_items = inputs["user_index"].count(), inputs["item_index"].count()
    return propose(personal, inputs["interactions"], n_users, n_items, context.config.candidates, context.cutoff)


def _proposals(name: str, inputs: dict[str, DataFrame], context: Context) -> DataFrame | Personal:
    """What source `name` gives, which sees no table but those in its READS."""
    source = load(name)
    missing = sorted(set(source.READS) - set(inputs))
    if missing:
        raise ContractError(
            f"sources/{name}.py READS: expected tables that the step retrieve reads ({', '.join(sorted(inputs))}), "
            f"got {', '.join(missing)}; add them to the step in recsys_spark/plan.py"
        )
    params = check_params(context.config)[name]
    proposed = source.generate({table: inputs[table] for table in source.READS}, params, context)
    if isinstance(proposed, Personal):
        return proposed
    check_schema(proposed, _TABLE, without=("run_id",))
    bears_name = (F.col("source") == name) | F.col("source").startswith(f"{name}/")
    refusal = F.raise_error(
        F.concat(
            F.lit(f"sources/{name}.py: expected lists called {name} or {name}/..., got "),
            F.coalesce("source", F.lit("null")),
            F.lit("; correct their names"),
        )
    )
    checked = F.when(bears_name, F.col("source")).otherwise(refusal).alias("source")
    return proposed.select(checked, "user_idx", "segment", "items", "n_own", "mean", "deviation")
