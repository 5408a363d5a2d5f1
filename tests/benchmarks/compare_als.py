"""ALS on real logs: beside item-item CF and popularity, beside two other solvers, and for items that nobody had yet.

    uv run --group bench python tests/benchmarks/compare_als.py [--tune] [--part logs|solvers|cold]
                                                                [--users N] [--dates N] [--settings N]

Every setting that is not named comes from conf/base.toml; recall@20 and ndcg@20.  Dates, weights, AVAILABLE_DAYS and
what is hidden from whom are those of compare_item_cf.

--tune    On the tuning dates alone: a grid of twelve, then one setting at a time around the defaults, by the mean over
          both logs of recall in parts of that of 28-day popularity.
logs      The defaults on the judged dates, means over dates, as compare_item_cf has them.
solvers   Ours, `implicit` (conjugate gradients) and MLlib, by plain dot products.  Each is at its best of twelve
          settings: factors {64, 128} x alpha {1, 10} x three ridges of its own kinds; ten iterations, and users solved
          last, for all.  Confidence is 1 + alpha * r everywhere: `implicit` is fed it, the others make it.
          MovieTweetings: settings by the tuning dates, lists of all judged dates pooled, the same weights,
          availability and hidden items for all.  At their best there ours and `implicit` are almost of rank one, an
          order by popularity, so this log says little about either.
          Goodbooks has no times, so this is no forecast but a comparison of solvers: of each user with 5 books or more
          a random fifth, one at least, is held out to be judged, and a fifth of the rest to choose settings, by 10,000
          users; then a refit on all but the former.  Every book may be listed but those of the user's fit.
          Differences are paired, with 95 % intervals of 10,000 bootstrap resamples of users, each with all their dates.
cold      MovieTweetings: films first rated in the four weeks after a date, ranked among themselves alone, for all with
          a past who rate one.  Genres of all films are further rows of users (attributes in als/blocks.py).
          Without them these films have no factors, and any order is as good.  Beside it: one order for all, by the mean
          user; and what genres do to the usual lists.  Films without a past are in random order, so that ties, films of
          the same genres, are broken at random.  The weight of a genre is chosen on the tuning dates by these films.

`--users`, `--dates` and `--settings` take less than all of the logs and of the grids; goodbooks' users are the first N.
The last line is JSON.  Exit status 1 if ours is worse than a peer with an interval that ends below 0.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # the solvers have a thread each

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from recsys_spark.cli.demo.holdout import WINDOW_DAYS
from recsys_spark.config.load import load_config
from recsys_spark.numeric.ragged import Ragged
from recsys_spark.numeric.sparse import Csr
from recsys_spark.spark.session import open_session
from tests.benchmarks.compare_item_cf import (
    AVAILABLE_DAYS,
    MOVIETWEETINGS,
    K,
    Log,
    label,
    log_options,
    logs_of,
    mean_figures,
    past_of,
    product_defaults,
)
from tests.benchmarks.peers_als import (
    SEED,
    Setting,
    Task,
    book_tasks,
    compare_solvers,
    difference,
    figures_of,
    fit_implicit,
    fit_ours,
    log_tasks,
    mllib_fit,
    task_of,
)
from tests.benchmarks.report import finish
from tests.sparse import csr_of_pairs

GENRE_WEIGHTS = (1.0, 10.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the grids of the tuning dates, or the parts that are asked for."""
    parser = log_options(__doc__)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--part", choices=("logs", "solvers", "cold"))
    asked = parser.parse_args(argv)
    parts = {"tune": tuned} if asked.tune else {"logs": compared, "cold": cold_films, "solvers": solvers}
    started = time.perf_counter()
    logs = logs_of(asked.users, asked.dates)
    found = {name: part(logs, asked) for name, part in parts.items() if asked.part in (None, name) or asked.tune}
    print(f"\n{time.perf_counter() - started:.0f} s")
    differences = (
        interval
        for log in found.get("solvers", {}).values()
        for name, of_peer in log.items()
        if name.startswith("ours - ")
        for interval in of_peer.values()
    )
    finish(found, asked, within_bars=all(high >= 0 for _, _, high in differences))


def defaults() -> Setting:
    """The settings in conf/base.toml."""
    config = load_config()
    als, source = config.als, config.sources.params("als")
    fit = als.factors, als.alpha, als.regularization, als.nu, als.iterations, als.tolerance
    return Setting(*fit, als.half_life_days, source["norm_exponent"], als.unobserved)


def tuned(logs: list[Log], asked: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """By grid and setting the recall on the tuning dates of each log, in parts of 28-day popularity."""
    pasts = [[past_of(log, day) for day in log.tuning] for log in logs]
    popular = [mean_figures(of_log, AVAILABLE_DAYS)[0] for of_log in pasts]
    found: dict[str, dict[str, list[float]]] = {}
    for name, settings in grids().items():
        found[name] = {}
        for setting in settings[: asked.settings]:
            recalls = [figures([task_of(past, setting.half_life_days) for past in log], setting)[0] for log in pasts]
            found[name][label(setting)] = [recall / p for recall, p in zip(recalls, popular, strict=True)]
        print(f"\n{name}: mean ratio, ratio by log, setting")
        for setting, ratios in sorted(found[name].items(), key=lambda entry: -sum(entry[1])):
            print(f"  {np.mean(ratios):.4f}  {' '.join(f'{ratio:.4f}' for ratio in ratios)}  {setting}", flush=True)
    return found


def grids() -> dict[str, list[Setting]]:
    """Twelve settings, then one at a time around the defaults."""
    default = defaults()
    twelve = product((1.0, 2.0), (0.004, 0.006, 0.01), (1.0, 0.75))
    grid = [
        replace(default, factors=128, half_life_days=30.0, alpha=alpha, regularization=ridge, norm_exponent=exponent)
        for alpha, ridge, exponent in twelve
    ]
    ridges = [*product((0.5,), (0.1, 0.3, 1.0)), *product((0.0,), (0.1, 1.0, 10.0, 50.0))]
    return {
        "alpha, regularization, norm_exponent": grid,
        "factors": [replace(default, factors=n) for n in (32, 64, 128, 256)],
        "nu": [default, *(replace(default, nu=nu, regularization=ridge) for nu, ridge in ridges)],
        "half_life_days": [replace(default, half_life_days=days) for days in (0.0, 15.0, 30.0, 60.0)],
        "iterations": [replace(default, iterations=n) for n in (5, 10, 15)],
        "tolerance": [replace(default, tolerance=tolerance) for tolerance in (0.0, 1e-5, 1e-4, 1e-3)],
        "norm_exponent": [replace(default, norm_exponent=exponent) for exponent in (0.25, 0.5, 0.75, 1.0)],
    }


def figures(tasks: list[Task], setting: Setting) -> list[float]:
    """Recall and ndcg of ours, means over the dates."""
    found = [figures_of(task, *fit_ours(task.weights, setting), setting.norm_exponent).mean(axis=0) for task in tasks]
    return np.mean(found, axis=0).tolist()


def compared(logs: list[Log], asked: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Recall and ndcg by log and method on the judged dates, printed as a table."""
    found: dict[str, dict[str, list[float]]] = {}
    default = defaults()
    for log in logs:
        pasts = [past_of(log, day) for day in log.judged]
        found[log.name] = {
            "als with the defaults": figures([task_of(past, default.half_life_days) for past in pasts], default),
            "item_cf with the defaults": mean_figures(pasts, product_defaults()),
            "most engaged with in 28 days": mean_figures(pasts, AVAILABLE_DAYS),
            "most engaged with of all time": mean_figures(pasts, None),
        }
        n_judged = sum(len(past.judged) for past in pasts)
        print(f"\n{log.name}: {len(pasts)} dates, {n_judged:,} judged users in all\n")
        print(f"| method | recall@{K} | ndcg@{K} |\n|---|---|---|")
        for name, (recall, ndcg) in found[log.name].items():
            print(f"| {name} | {recall:.4f} | {ndcg:.4f} |", flush=True)
    return found


def solvers(logs: list[Log], asked: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Each solver at its best on both data sets, with what ours has over the others."""
    log = logs[1]
    tasks = {log.name: log_tasks(log), "goodbooks, no forecast": book_tasks(asked.users)}
    with tempfile.TemporaryDirectory() as folder:
        spark = open_session("compare als", Path(folder), {"spark.driver.memory": "8g"})
        fits = {"ours": fit_ours, "implicit": fit_implicit, "MLlib": mllib_fit(spark, Path(folder))}
        found = compare_solvers(tasks, fits, asked.settings)
        spark.stop()
    return found


class ColdDate(NamedTuple):
    """A date twice: what is usually judged, and the films without a past.

    Films of `cold` have the last columns.  genres: (rows, columns) of the genres' entries, rows after all users'.
    """

    usual: Task
    cold: Task
    genres: tuple[np.ndarray, np.ndarray]


def cold_films(logs: list[Log], asked: argparse.Namespace) -> dict[str, Any]:
    """Recall of films without a past by genres, and the price of it; printed."""
    log, default = logs[1], defaults()
    tuning, judged = (
        [cold_date(log, day, default.half_life_days) for day in days] for days in (log.tuning, log.judged)
    )
    recalls = {}
    for weight in GENRE_WEIGHTS:
        recalls[weight] = float(np.mean([by_genres(one, default, weight)["cold"][:, 0].mean() for one in tuning]))
        print(f"\nweight of a genre {weight:g}: recall@{K} {recalls[weight]:.4f} of films without a past, tuning dates")
    weight = max(recalls, key=lambda weight: recalls[weight])
    parts = [by_genres(one, default, weight) for one in judged]
    by_user = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    chances = [np.full(len(one.cold.judged), min(1.0, K / len(one.cold.listed))) for one in judged]
    names = np.concatenate([one.usual.names for one in judged])
    of_cold = np.concatenate([one.cold.names for one in judged])
    found = {name: values[:, 0].mean() for name, values in by_user.items()}
    found |= {"chance": float(np.concatenate(chances).mean()), "genre_weight": weight}
    found["cold - one order"] = difference(by_user["cold"] - by_user["one order"], of_cold)["recall"]
    found["usual - plain"] = difference(by_user["usual"] - by_user["plain"], names)["recall"]
    print(f"\n{log.name}, lists pooled over {len(judged)} dates, weight of a genre {weight:g}\n")
    print(f"| recall@{K} | films without a past ({len(of_cold):,} lists) | the usual ({len(names):,} lists) |")
    print("|---|---|---|")
    print(f"| with genres | {found['cold']:.4f} | {found['usual']:.4f} |")
    print(f"| with genres, one order for all | {found['one order']:.4f} | |")
    print(f"| without | {found['chance']:.4f} (by chance) | {found['plain']:.4f} |\n")
    for name in ("cold - one order", "usual - plain"):
        mean, low, high = found[name]
        print(f"{name}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]")
    return found


def cold_date(log: Log, day: date, half_life_days: float) -> ColdDate:
    """The date with the films that are first rated in the weeks after it."""
    past = past_of(log, day)
    usual = task_of(past, half_life_days)
    start = pd.Timestamp(datetime(day.year, day.month, day.day, tzinfo=UTC))
    before = log.lines["event_time"] < start
    users = np.unique(log.lines.loc[before, "user_id"])
    films = pq.read_table(MOVIETWEETINGS.with_name("items.parquet"), columns=["item_id", "genres"]).to_pandas()
    new = log.lines[~before & (log.lines["event_time"] < start + timedelta(days=WINDOW_DAYS))]
    new = new[~new["item_id"].isin(past.items) & new["item_id"].isin(films["item_id"])]
    films_of = np.random.default_rng(SEED).permutation(np.unique(new["item_id"]))
    columns = pd.Series(np.arange(len(past.items) + len(films_of)), np.concatenate([past.items, films_of]))
    new = new[new["user_id"].isin(users)].drop_duplicates(["user_id", "item_id"])
    names, row = np.unique(new["user_id"], return_inverse=True)
    wanted = csr_of_pairs(row, columns[new["item_id"]].to_numpy(), np.ones(len(new)), len(names), len(columns))
    targets = Ragged(wanted.indptr, wanted.indices.astype(np.int64))
    nothing = Csr(np.zeros(len(names) + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), len(columns))
    listed = np.arange(len(past.items), len(columns))
    cold = Task(usual.weights, np.searchsorted(users, names), nothing, targets, listed, names)
    genres = films[films["item_id"].isin(columns.index)].explode("genres").dropna()
    genre = np.unique(genres["genres"], return_inverse=True)[1]
    return ColdDate(usual, cold, (len(users) + genre, columns[genres["item_id"]].to_numpy()))


def by_genres(films: ColdDate, setting: Setting, weight: float) -> dict[str, np.ndarray]:
    """Figures by user: of films without a past, of these in one order for all, of the usual, of that without genres."""
    weights, (rows, cols) = films.usual.weights, films.genres
    n_rows, n_cols = int(rows.max()) + 1, films.cold.hidden.n_cols
    values = np.concatenate([weights.values, np.full(len(rows), weight)])
    with_genres = csr_of_pairs(
        np.concatenate([weights.rows, rows]), np.concatenate([weights.indices, cols]), values, n_rows, n_cols
    )
    X, Y = fit_ours(with_genres, setting)
    plain = fit_ours(weights, setting)
    usual = films.usual._replace(hidden=films.usual.hidden._replace(n_cols=n_cols))
    mean_user = np.repeat(X[: weights.n_rows].mean(axis=0)[None], weights.n_rows, axis=0)
    return {
        "cold": figures_of(films.cold, X, Y, setting.norm_exponent),
        "one order": figures_of(films.cold, mean_user, Y, setting.norm_exponent),
        "usual": figures_of(usual, X, Y, setting.norm_exponent),
        "plain": figures_of(films.usual, *plain, setting.norm_exponent),
    }


if __name__ == "__main__":
    main()
