"""The lists of one source, as the step `retrieve` makes them."""

from collections.abc import Mapping

from pyspark.sql import DataFrame

from recsys_spark.context import Context
from recsys_spark.retrieval.declared import check_params, load
from recsys_spark.retrieval.step_retrieve import lists_of
from recsys_spark.retrieval.user_lists import ForMany


def proposed(name: str, tables: Mapping[str, DataFrame], context: Context) -> DataFrame:
    """Rows of `source_candidates`; the source sees no table but those in its READS.

    tables: of READS, and what `retrieve` itself reads of users where the source gives a model of them.
    """
    source = load(name)
    given = {table: tables[table] for table in source.READS if table in tables}
    found = source.generate(given, check_params(context.config)[name], context)
    if isinstance(found, ForMany):
        return found.lists
    return found if isinstance(found, DataFrame) else lists_of({name: found}, tables, context)
