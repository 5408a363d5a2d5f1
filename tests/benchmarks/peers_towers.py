"""Baselines of the towers, item-item CF and popularity user by user, and the features that the two logs have."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.cli.demo.holdout import popular_items
from recsys_spark.cli.demo.logs import read_lines
from recsys_spark.item_cf.kernels.user_scores import score_neighbors
from recsys_spark.numeric.metrics import ndcg_at_k, recall_at_k
from recsys_spark.numeric.ragged import Ragged, ragged
from tests.benchmarks.compare_item_cf import MOVIETWEETINGS, K, Ours, Past, among, history_of, our_neighbors

COUNTED_DAYS = {"n_users_7d": 7, "n_users_28d": 28, "n_users_90d": 90, "n_users": 730}
HISTORY = (*COUNTED_DAYS, "days_since_first", "days_since_last")


def item_table(past: Past) -> pa.Table:
    """Of every item what item_features has of it as far as the log says: counts by `weights`, text by the catalogue."""
    weights, age, n_items = past.weights, past.age_days, len(past.items)
    nobody = np.bincount(weights.indices, minlength=n_items) == 0
    columns: dict[str, Any] = {"known_id": pa.array(past.items, mask=nobody)}
    for name, days in COUNTED_DAYS.items():
        counts = np.bincount(weights.indices[age <= days], minlength=n_items).astype(np.float64)
        columns[name] = pa.array(counts, mask=nobody)
    oldest, newest = np.full(n_items, -np.inf), np.full(n_items, np.inf)
    np.maximum.at(oldest, weights.indices, age)
    np.minimum.at(newest, weights.indices, age)
    for name, values in (("days_since_first", oldest), ("days_since_last", newest)):
        columns[name] = pa.array(np.where(np.isfinite(values), values, 0.0), mask=~np.isfinite(values))
    return pa.table(columns | _texts(past))


def _texts(past: Past) -> dict[str, pa.Array]:
    if past.log.name.startswith("Online"):
        lines = read_lines(["item_id", "description", "invoice_time"]).to_pandas().dropna()
        lines = lines[lines["invoice_time"] < pd.Timestamp(past.holdout.day, tz="UTC")]
        titles = lines.drop_duplicates("item_id", keep="last").set_index("item_id")["description"]
        return {"title": pa.array(titles.reindex(past.items), pa.string(), from_pandas=True)}
    films = pq.read_table(MOVIETWEETINGS.with_name("items.parquet")).to_pandas().set_index("item_id")
    films = films.reindex(past.items)
    genres = [None if genre is None or isinstance(genre, float) else list(genre) for genre in films["genres"]]
    return {
        "title": pa.array(films["title"], pa.string(), from_pandas=True),
        "genres": pa.array(genres, pa.list_(pa.string())),
    }


def user_table(past: Past) -> pa.Table:
    """The country of every user, where the log has one."""
    users = np.unique(
        past.log.lines.loc[past.log.lines["event_time"] < pd.Timestamp(past.holdout.day, tz="UTC"), "user_id"]
    )
    if not past.log.name.startswith("Online"):
        return pa.table({"country": pa.nulls(len(users), pa.string())})
    lines = read_lines(["user_id", "country"]).to_pandas().dropna().drop_duplicates("user_id", keep="last")
    return pa.table({"country": pa.array(lines.set_index("user_id")["country"].reindex(users), pa.string())})


def lists_of_item_cf(case: Any, method: Ours) -> np.ndarray:
    """Recall and ndcg of every judged user by item-item CF, (n, 2)."""
    past = case.past
    near = among(our_neighbors(past, method), past.available)
    lists = score_neighbors(history_of(past, method), near, past.hidden, K, False)
    return _metrics(Ragged(lists.indptr, lists.indices.astype(np.int64)), case.task.targets)


def lists_of_order(case: Any, days: int | None, k: int) -> np.ndarray:
    """Recall and ndcg of every judged user by one order for all: most engaged with in so many days, (n, 2)."""
    past = case.past
    places = {item: place for place, item in enumerate(past.items)}
    order = [places[item] for item in popular_items(past.log.purchases, past.holdout.day, days) if item in places]
    order = [place for place in order if past.available[place]]
    rows = []
    for row in range(len(past.judged)):
        had = set(past.hidden.indices[past.hidden.indptr[row] : past.hidden.indptr[row + 1]].tolist())
        rows.append([place for place in order[: k + len(had)] if place not in had][:k])
    return _metrics(ragged(rows), case.task.targets)


def _metrics(lists: Ragged, targets: Ragged) -> np.ndarray:
    return np.stack([metric(lists, targets, K) for metric in (recall_at_k, ndcg_at_k)], axis=1)
