"""Gives every user and item that is known before the date a dense index.

Owns: which ids are indexed: users of events and of the catalogue, items of events (with or without a user) and of the
catalogue.
"""

import logging

from pyspark.sql import DataFrame

from recsys_spark.context import Context
from recsys_spark.signals.dense_index import fit_index
from recsys_spark.signals.event_weights import known_events

_log = logging.getLogger(__name__)


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`user_index` and `item_index`; figures n_users and n_items.  Raises KernelError if the ids outnumber int32."""
    events = known_events(inputs["events"], context.cutoff)
    user_ids = events.select("user_id").unionByName(inputs["users"].select("user_id"))
    item_ids = events.select("item_id").unionByName(inputs["items"].select("item_id"))
    users = fit_index(user_ids, "user_id", "user_idx")
    items = fit_index(item_ids, "item_id", "item_idx")
    context.figures.update(n_users=float(users.n_ids), n_items=float(items.n_ids))
    _log.info("step=index phase=fit n_users=%d n_items=%d", users.n_ids, items.n_ids)
    return {"user_index": users.frame, "item_index": items.frame}
