"""What the steps `index` and `interactions` make of a log, written down without Spark; they have tests of their own."""

from collections.abc import Iterable

from pyspark.sql import DataFrame

from recsys_spark.context import Context
from tests.engagement import Event, make_events, oracle_interactions
from tests.staged_lists import frame

_VALUES = ("weight", "last_time", "n_events", "excluded_until")


def indexed_log(
    context: Context, log: list[Event], users: Iterable[str] = (), items: Iterable[str] = ()
) -> dict[str, DataFrame]:
    """The tables events, user_index, item_index and interactions.  users, items: ids of the catalogue."""
    spark = context.spark
    user_ids = sorted({*users, *(event.user_id for event in log if event.user_id is not None)})
    item_ids = sorted({*items, *(event.item_id for event in log)})
    pairs = [
        {"user_idx": user_ids.index(user), "item_idx": item_ids.index(item)} | dict(zip(_VALUES, values, strict=True))
        for (user, item), values in sorted(oracle_interactions(log, context.config, {}).items())
    ]
    named = {"user": user_ids, "item": item_ids}
    return {
        "events": make_events(spark, log),
        "interactions": frame(spark, "interactions", pairs),
        **{
            f"{kind}_index": frame(
                spark, f"{kind}_index", [{f"{kind}_idx": idx, f"{kind}_id": name} for idx, name in enumerate(ids)]
            )
            for kind, ids in named.items()
        },
    }


def names_of(tables: dict[str, DataFrame], kind: str) -> dict[int, str]:
    """Ids of users, or items, by index."""
    return {row[f"{kind}_idx"]: row[f"{kind}_id"] for row in tables[f"{kind}_index"].collect()}
