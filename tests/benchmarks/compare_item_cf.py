"""Item-item CF on two real logs, beside `implicit` and popularity: what people newly bought, and newly rated.

    uv run --group bench python tests/benchmarks/compare_item_cf.py [--tune] [--users N] [--dates N] [--settings N]

Protocol: recsys_spark/cli/demo/holdout.py, recall@20 and ndcg@20, means over the judged dates of each log.  Weights are
made as the product makes them: a return subtracts, HALF_LIFE_DAYS, WINDOW_DAYS.  Every side recommends what was engaged
with in the AVAILABLE_DAYS before the date, and nothing that the user had; a score is the sum of weight x similarity
over the history, on both sides.

Settings were chosen on tuning dates alone, whose four weeks end before the first judged date: `--tune` prints the
grids, twelve settings for each method.  Ours are one set for both logs, by the mean ratio of recall to that of 28-day
popularity; those of `implicit` are the best for each log.
`--users`, `--dates` and `--settings` take less than all of the logs and of the grids.
The last line is JSON: by log and method recall and ndcg (with --tune: by method and setting the ratio for each log).
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from scipy.sparse import csr_matrix

from recsys_spark.cli.demo.holdout import Figures, Holdout, hold_out, judge_lists, judge_order, popular_items
from recsys_spark.cli.demo.logs import read_lines, read_purchases
from recsys_spark.config.load import load_config
from recsys_spark.item_cf.kernels.similarity import Similarity, entry_values, item_parts, nearest_items, sums_of_parts
from recsys_spark.item_cf.kernels.user_scores import score_neighbors
from recsys_spark.item_cf.neighbors import similarity_of
from recsys_spark.numeric.metrics import ndcg_at_k, recall_at_k
from recsys_spark.numeric.ragged import ragged
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr, newest_entries
from tests.benchmarks.report import finish, size_options
from tests.sparse import csr_of_pairs

K = 20
WINDOW_DAYS, HALF_LIFE_DAYS, AVAILABLE_DAYS = 730, 180.0, 28
MOVIETWEETINGS = Path(__file__).parents[1] / "data" / "movietweetings" / "interactions.parquet"


@dataclass(frozen=True)
class Log:
    """purchases: what counts as bought.  lines: user_id, item_id, event_time, weight (of an event, without its age)."""

    name: str
    purchases: pa.Table
    lines: pd.DataFrame
    tuning: list[date]
    judged: list[date]


@dataclass(frozen=True)
class Past:
    """What is known on a date: rows are users, all who are judged among them; columns are items, both by byte order.

    raw: summed weights without age.  weights: with it.  age_days: of the last event, per entry of both.
    judged, hidden: the judged users' rows, and what they had.  available: bool (n_items,).
    """

    log: Log
    holdout: Holdout
    items: np.ndarray
    raw: Csr
    weights: Csr
    age_days: np.ndarray
    judged: np.ndarray
    hidden: Csr
    available: np.ndarray


@dataclass(frozen=True)
class Ours:
    """A similarity, and the history that is scored: newest items, and a half-life on top of the weight (0: none)."""

    similarity: Similarity
    history_items: int
    half_life_days: float


@dataclass(frozen=True)
class Implicit:
    """CosineRecommender, or BM25Recommender with K1 and B.  decayed: whether its weights know the age of events."""

    K: int
    bm25: tuple[float, float] | None
    decayed: bool
    half_life_days: float


Method = Ours | Implicit | int | None  # popularity in so many days, None: of all time


def ours(
    name: str, alpha: float, beta: float, shrinkage: float, least: int, days: float, n: int = 200, items: int = 50
) -> Ours:
    """The settings of [item_cf] and [sources.item_cf], in short; gamma is alpha."""
    return Ours(Similarity(name, alpha, beta, alpha, shrinkage, least, n), items, days)


OURS = {
    "cosine": ours("cosine", 1.0, 0.0, 100.0, 1, 30.0),
    "jaccard": ours("jaccard", 1.0, 0.0, 10.0, 5, 30.0),
    "conditional": ours("conditional", 1.0, 0.2, 0.0, 5, 30.0),
    "pearson": ours("pearson", 1.0, 0.0, 100.0, 3, 0.0),
    "rp3beta": ours("rp3beta", 0.8, 0.2, 0.0, 3, 30.0),
}
IMPLICIT = {
    "Online Retail II": {
        "implicit cosine": Implicit(5, None, True, 0.0),
        "implicit BM25": Implicit(1000, (1.2, 0.75), True, 30.0),
    },
    "MovieTweetings": {
        "implicit cosine": Implicit(1000, None, False, 30.0),
        "implicit BM25": Implicit(1000, (1.2, 0.0), True, 30.0),
    },
}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table of the judged dates, or the grids of the tuning dates."""
    parser = log_options(__doc__)
    parser.add_argument("--tune", action="store_true")
    asked = parser.parse_args(argv)
    started = time.perf_counter()
    logs = logs_of(asked.users, asked.dates)
    figures = tuned(logs, asked.settings) if asked.tune else compared(logs)
    print(f"\n{time.perf_counter() - started:.0f} s")
    finish(figures, asked)


def log_options(doc: str | None) -> argparse.ArgumentParser:
    """A parser for what compares on the real logs: how much of these, and of the grids of settings, is taken."""
    parser = size_options(doc)
    for name, of in (("users", "busiest users of a log"), ("dates", "first dates"), ("settings", "first settings")):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"the N {of}; all by default")
    return parser


def logs_of(n_users: int | None, n_dates: int | None = None) -> list[Log]:
    """Online Retail II and MovieTweetings, cut."""
    return [cut(log, n_users, n_dates) for log in (online_retail(), movietweetings())]


def cut(log: Log, n_users: int | None, n_dates: int | None) -> Log:
    """The log of its busiest users, with so many dates to choose settings by and to judge on; None: all."""
    if n_users is not None:
        busiest = log.lines["user_id"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
        users = busiest.index[:n_users]
        bought = log.purchases.filter(pc.is_in(log.purchases["user_id"], pa.array(users)))
        log = replace(log, purchases=bought, lines=log.lines[log.lines["user_id"].isin(users)])
    return replace(log, tuning=log.tuning[:n_dates], judged=log.judged[:n_dates])


def online_retail() -> Log:
    """Invoice lines of a shop; a purchase weighs log(1 + pieces), a return as much below zero."""
    lines = read_lines(["user_id", "item_id", "invoice_time", "quantity", "line_type"]).to_pandas()
    lines = lines[lines["user_id"].notna()].rename(columns={"invoice_time": "event_time"})
    sign = np.where(lines["line_type"] == "return", -1.0, 1.0)
    lines["weight"] = sign * np.log1p(lines["quantity"].abs())
    tuning = [date(2010, 11, 1), date(2010, 12, 1), *(date(2011, month, 1) for month in range(1, 5))]
    judged = [date(2011, month, 1) for month in range(5, 11)]
    return Log("Online Retail II", read_purchases(), lines, tuning, judged)


def movietweetings() -> Log:
    """Ratings of films on Twitter; that a film was rated weighs 1, whatever the rating."""
    ratings = pq.read_table(MOVIETWEETINGS, columns=["user_id", "item_id", "event_time"])
    lines = ratings.to_pandas().assign(weight=1.0)
    judged = [date(2013, month, 1) for month in range(6, 11)]
    return Log("MovieTweetings", ratings, lines, [date(2013, 4, 15), date(2013, 5, 1)], judged)


def past_of(log: Log, day: date) -> Past:
    """The past of `day`, and who is judged on it."""
    cutoff = pd.Timestamp(datetime(day.year, day.month, day.day, tzinfo=UTC))
    holdout = hold_out(log.purchases, day)
    known = log.lines[log.lines["event_time"] < cutoff]
    age_days = (cutoff - known["event_time"]) / timedelta(days=1)
    known = known.assign(age_days=age_days, decayed=known["weight"] * 0.5 ** (age_days / HALF_LIFE_DAYS))
    pairs = known[known["age_days"] <= WINDOW_DAYS].groupby(["user_id", "item_id"], as_index=False)
    pairs = pairs.agg({"weight": "sum", "decayed": "sum", "age_days": "min"})
    # A pair that was returned weighs nothing; what is left over by rounding is nothing too.
    pairs = pairs[(pairs["weight"] > 1e-9) & (pairs["decayed"] > 1e-9)]
    users, items = np.unique(known["user_id"]), np.unique(known["item_id"])
    rows, cols = np.searchsorted(users, pairs["user_id"]), np.searchsorted(items, pairs["item_id"])
    shape = len(users), len(items)
    raw, weights = (csr_of_pairs(rows, cols, pairs[name].to_numpy(), *shape) for name in ("weight", "decayed"))
    order = np.lexsort((cols, rows))
    seen = np.concatenate([np.searchsorted(items, sorted(had)) for had in holdout.seen])
    seen_by = np.repeat(np.arange(len(holdout.seen)), [len(had) for had in holdout.seen])
    hidden = csr_of_pairs(seen_by, seen, np.ones(len(seen)), len(holdout.seen), len(items))
    available = np.isin(items, popular_items(log.purchases, day, AVAILABLE_DAYS))
    judged = np.searchsorted(users, holdout.users)
    return Past(log, holdout, items, raw, weights, pairs["age_days"].to_numpy()[order], judged, hidden, available)


def judge(past: Past, method: Method) -> Figures:
    """The figures of a method on one date."""
    if isinstance(method, Ours | Implicit):
        return judge_lists(lists_of(past, method), past.holdout, K)
    available = set(past.items[past.available])
    order = popular_items(past.log.purchases, past.holdout.day, method)
    return judge_order([item_id for item_id in order if item_id in available], past.holdout, K)


def judge_by_user(past: Past, method: Ours | Implicit) -> np.ndarray:
    """Recall and ndcg of every judged user, (n_users, 2)."""
    lists, holdout = lists_of(past, method), past.holdout
    index = {item_id: at for at, item_id in enumerate(past.items)}
    found = ragged([[index[item_id] for item_id in lists[user]] for user in holdout.users])
    targets = ragged([[index[item_id] for item_id in wanted] for wanted in holdout.targets])
    return np.stack([metric(found, targets, K) for metric in (recall_at_k, ndcg_at_k)], axis=1)


def lists_of(past: Past, method: Ours | Implicit) -> dict[str, list[str]]:
    """The list of every judged user."""
    near = our_neighbors(past, method) if isinstance(method, Ours) else peer_neighbors(past, method)
    lists = score_neighbors(history_of(past, method), among(near, past.available), past.hidden, K, False)
    rows = np.split(past.items[lists.indices], lists.indptr[1:-1])
    return dict(zip(past.holdout.users, map(list, rows), strict=True))


def among(lists: Ranked, wanted: np.ndarray) -> Ranked:
    """The lists without the items for which `wanted` is false."""
    kept = wanted[lists.indices]
    before = np.concatenate([[0], np.cumsum(kept)])
    return Ranked(before[lists.indptr], lists.indices[kept], lists.scores[kept])


def our_neighbors(past: Past, method: Ours) -> Ranked:
    """The nearest available items of each."""
    weights = past.weights
    sums = sums_of_parts(item_parts(weights), int(np.count_nonzero(weights.lengths)))
    values = entry_values(weights, method.similarity)
    return nearest_items(values, range(weights.n_cols), None, sums, method.similarity, past.available)


def peer_neighbors(past: Past, method: Implicit) -> Ranked:
    """The K nearest items of each, as `implicit` stores them; its `recommend` sums these rows."""
    weights = past.weights if method.decayed else past.raw
    values = weights.values.astype(np.float64)
    model = BM25Recommender(method.K, *method.bm25) if method.bm25 else CosineRecommender(method.K)
    model.fit(csr_matrix((values, weights.indices, weights.indptr), (weights.n_rows, weights.n_cols)), False)
    near = model.similarity
    return Ranked(near.indptr.astype(np.int64), near.indices.astype(np.int32), near.data.astype(np.float32))


def history_of(past: Past, method: Ours | Implicit) -> Csr:
    """The weights of the judged users' items; ours: of the newest."""
    weights = past.raw if isinstance(method, Implicit) and not method.decayed else past.weights
    values = weights.values
    if method.half_life_days:
        values = values * 0.5 ** (past.age_days / method.half_life_days)
    n_newest = method.history_items if isinstance(method, Ours) else weights.n_cols
    row_of = np.full(weights.n_rows, -1)  # -1: not judged
    row_of[past.judged] = np.arange(len(past.judged))
    rows = row_of[weights.rows]
    kept = newest_entries(weights.indptr, weights.indices, -past.age_days, n_newest) & (rows >= 0)
    return csr_of_pairs(rows[kept], weights.indices[kept], values[kept], len(past.judged), weights.n_cols)


def compared(logs: list[Log]) -> dict[str, dict[str, list[float]]]:
    """Recall and ndcg by log and method, printed as a table."""
    figures: dict[str, dict[str, list[float]]] = {}
    for log in logs:
        pasts = [past_of(log, day) for day in log.judged]
        methods: dict[str, Method] = {f"item_cf {name}": method for name, method in OURS.items()}
        methods |= {"item_cf with the defaults": product_defaults(), **IMPLICIT[log.name]}
        methods |= {"most engaged with in 28 days": AVAILABLE_DAYS, "most engaged with of all time": None}
        figures[log.name] = {name: mean_figures(pasts, method) for name, method in methods.items()}
        n_judged = sum(len(past.judged) for past in pasts)
        print(f"\n{log.name}: {len(pasts)} dates, {n_judged:,} judged users in all\n")
        print(f"| method | recall@{K} | ndcg@{K} |\n|---|---|---|")
        for name, (recall, ndcg) in figures[log.name].items():
            print(f"| {name} | {recall:.4f} | {ndcg:.4f} |")
    return figures


def product_defaults() -> Ours:
    """The settings in conf/base.toml."""
    config = load_config()
    source = config.sources.params("item_cf")
    return Ours(similarity_of(config.item_cf), source["history_items"], source["half_life_days"])


def mean_figures(pasts: list[Past], method: Method) -> list[float]:
    """Recall and ndcg, means over the dates."""
    found = [judge(past, method) for past in pasts]
    return [float(np.mean([getattr(one, name) for one in found])) for name in ("recall", "ndcg")]


def tuned(logs: list[Log], n_settings: int | None) -> dict[str, dict[str, list[float]]]:
    """By method and setting the recall on the tuning dates of each log, in parts of 28-day popularity."""
    pasts = [[past_of(log, day) for day in log.tuning] for log in logs]
    popular = [mean_figures(of_log, AVAILABLE_DAYS)[0] for of_log in pasts]
    found: dict[str, dict[str, list[float]]] = {}
    for name, methods in grids().items():
        found[name] = {
            label(method): [mean_figures(of_log, method)[0] / p for of_log, p in zip(pasts, popular, strict=True)]
            for method in methods[:n_settings]
        }
        print(f"\n{name}: mean ratio, ratio by log, setting")
        for setting, ratios in sorted(found[name].items(), key=lambda entry: -sum(entry[1])):
            print(f"  {np.mean(ratios):.4f}  {' '.join(f'{ratio:.4f}' for ratio in ratios)}  {setting}")
    return found


def label(method: Ours | Implicit) -> str:
    """The settings in one line."""
    fields = asdict(method)
    return " ".join(f"{name}={value}" for name, value in (fields.pop("similarity", {}) | fields).items())


def grids() -> dict[str, list[Ours] | list[Implicit]]:
    """Twelve settings of every method, then what is common to our similarities, for the default."""
    strengths = {  # alpha, beta, shrinkage
        "cosine": [(1.0, 0.0, 10.0), (1.0, 0.0, 100.0)],
        "jaccard": [(1.0, 0.0, 10.0), (1.0, 0.0, 30.0)],
        "conditional": [(1.0, 0.0, 0.0), (1.0, 0.2, 0.0)],
        "pearson": [(1.0, 0.0, 10.0), (1.0, 0.0, 100.0)],
        "rp3beta": [(0.8, 0.0, 0.0), (0.8, 0.2, 0.0)],
    }
    found: dict[str, list[Ours] | list[Implicit]] = {
        name: [ours(name, *strength, least, days) for strength, least, days in product(pair, (1, 2, 5), (0.0, 30.0))]
        for name, pair in strengths.items()
    }
    default = product_defaults()
    found["lengths, of the default"] = [
        replace(default, similarity=replace(default.similarity, num_neighbors=n), history_items=items)
        for n, items in product((100, 200, 500, 1000), (20, 50, 500))
    ]
    found["implicit cosine"] = [
        Implicit(k, None, decayed, days) for k, decayed, days in product((5, 10, 1000), (False, True), (0.0, 30.0))
    ]
    found["implicit BM25"] = [
        Implicit(k, bm25, decayed, 30.0)
        for k, bm25, decayed in product((20, 1000), ((1.2, 0.75), (1.2, 0.2), (1.2, 0.0)), (False, True))
    ]
    return found


if __name__ == "__main__":
    main()
