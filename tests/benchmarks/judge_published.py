"""What every list is worth on two real logs, by `recsys-spark backtest`, beside `implicit` and both popularities.

    uv run --group bench python tests/benchmarks/judge_published.py [--folder DIR] [--set section.key=value]
                                                         [--log NAME] [--users N] [--dates N] [--settings N]

Protocol: recsys_spark/evaluation/protocol.py, dates below, windows of 28 days, recall@20 and ndcg@20: means over dates
of means over users, with 95 % intervals of users (recsys_spark/numeric/bootstrap.py).  Online Retail II: six monthly
dates; MovieTweetings: three.  All settings of ours are the defaults of conf/base.toml, chosen anew on every date.
`implicit` ALS and cosine are at their best of twelve settings on the tuning dates of compare_item_cf.py, fed as there
and in compare_als.py, for the same users.  `--dates`, `--settings` and, of MovieTweetings, `--users` take less than all
of them.  The last line is JSON: by log the intervals of every list, of what each blend has over the best single source,
and the ratio to popularity of 28 days.  Exit status 1 if the paired lower bound of the blend of scores is below 0.
"""

import argparse
import gzip
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from recsys_spark.cli.console import Console
from recsys_spark.cli.demo.logs import write_catalogue, write_events
from recsys_spark.cli.demo.story import LOG_STARTS, write_settings
from recsys_spark.cli.views.backtest import list_names, show_backtest, tallies
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.evaluation.judge import POPULAR_28
from recsys_spark.evaluation.kernels.figures import ALL, Figure
from recsys_spark.features.declared import declared_tables
from recsys_spark.ingest.step_ingest import ingest, ingest_catalogue
from recsys_spark.numeric.bootstrap import Interval, difference, draw, mean_interval, ratio, tally, user_keys
from recsys_spark.operations.backtest import Folds, Plan, backtest, write_figures
from recsys_spark.pipeline.gates.verdict import Forced
from recsys_spark.spark.session import open_session
from recsys_spark.warehouse.ledger import create_tables
from tests.benchmarks.compare_item_cf import (
    MOVIETWEETINGS,
    Implicit,
    K,
    Log,
    grids,
    judge_by_user,
    log_options,
    logs_of,
    mean_figures,
    past_of,
)
from tests.benchmarks.peers_als import RIDGES, best_of, figures_of, fit_implicit, log_tasks
from tests.benchmarks.report import finish

PLANS = {
    "Online Retail II": Plan(tuple(date(2011, month, 1) for month in range(5, 11))),
    "MovieTweetings": Plan(tuple(date(2013, month, 1) for month in range(6, 9))),
}
MOVIE_SETTINGS = """\
[events.types.rating]
weight = 1.0
"""
BLENDS = ("blend/rrf", "blend/scores")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs every date of both logs and prints their tables."""
    parser = judge_options(__doc__)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.users and arguments.log != "MovieTweetings":
        parser.error("--users: expected --log MovieTweetings with it, for the shop's log is written whole")
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="recsys-judge-"))
    folder.mkdir(parents=True, exist_ok=True)
    console, found = Console(json_logs=False), {}
    spark = open_session("judge published", folder)
    plans = plans_of(arguments)
    for log in (log for log in logs_of(arguments.users, arguments.dates) if log.name in plans):
        plan, place = plans[log.name], folder / log.name.replace(" ", "-")
        settings = place / "recsys.toml"
        if not settings.exists():
            LANDED_BY[log.name](place, replace(log, judged=list(plan.dates)))
        config = load_config(file=settings, sets=tuple(arguments.sets))
        folds = judged(spark, config, place, plan)
        add_peers(folds, log, config.run.seed, arguments.settings)
        write_figures(place, folds, plan.window_days)
        show_backtest(folds, console)
        found[log.name] = summary(folds)
    spark.stop()
    gains = [one.get("scores - best single") for one in found.values()]  # None: no scores were blended
    finish(found, arguments, within_bars=all(gain and gain["recall"][1] >= 0 for gain in gains))


def judge_options(doc: str | None) -> argparse.ArgumentParser:
    """A parser for what judges runs of PLANS."""
    parser = log_options(doc)
    parser.add_argument("--set", action="append", default=[], dest="sets", help="over the defaults of ours")
    parser.add_argument("--log", choices=tuple(PLANS), help="both by default")
    return parser


def plans_of(asked: argparse.Namespace) -> dict[str, Plan]:
    """By log the dates that are asked for."""
    wanted, n = PLANS if asked.log is None else {asked.log: PLANS[asked.log]}, asked.dates
    return {name: replace(plan, dates=plan.dates[:n]) for name, plan in wanted.items()}


def land_shop(folder: Path, log: Log) -> None:
    """The invoice lines of the shop, and its catalogue as it stood on every date; the settings of the demo."""
    folder.mkdir(parents=True)
    write_events(folder / "landing", LOG_STARTS, date(2011, 12, 10))
    for day in log.judged:
        write_catalogue(folder / "landing", day)
    write_settings(folder, towers=True)


def land_films(folder: Path, log: Log) -> None:
    """The ratings as one file a day; a film that was rated was watched, whatever the rating."""
    events = folder / "landing" / "events"
    events.mkdir(parents=True)
    ratings = pq.read_table(MOVIETWEETINGS)
    ratings = ratings.filter(pc.is_in(ratings["user_id"], pc.unique(log.purchases["user_id"])))
    days = pc.strftime(ratings["event_time"], format="%Y-%m-%d").to_numpy()
    for day in np.unique(days).tolist():
        rows = ratings.filter(days == day).to_pylist()
        text = "".join(json.dumps(row | {"event_time": row["event_time"].isoformat()}) + "\n" for row in rows)
        (events / f"{day}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    feeds = f'events = "{events}"\nitems = ""\nusers = ""\n'
    (folder / "recsys.toml").write_text(
        f'[storage]\nroot = "{folder / "warehouse"}"\n[landing]\n{feeds}{MOVIE_SETTINGS}'
    )


LANDED_BY = {"Online Retail II": land_shop, "MovieTweetings": land_films}


def judged(spark: SparkSession, config: Config, place: Path, plan: Plan) -> Folds:
    """The figures of every date of the plan; what an earlier call has done is there."""
    create_tables(config.root, declared_tables().values())
    for take_in in (ingest_catalogue, ingest):
        take_in(spark, config)

    def tell(step: str, phase: str, figures: dict[str, float]) -> None:
        if phase == "done":
            print(f"  {step} {figures.get('seconds', 0.0):.0f} s", flush=True)

    return backtest(spark, config, place / "backtest", plan, tell, Forced())


def add_peers(folds: Folds, log: Log, seed: int, n_settings: int | None) -> None:
    """Figures of `implicit` for the same users, with their draws."""
    setting = best_of(fit_implicit, RIDGES["implicit"], log_tasks(log)[0], n_settings)
    tuning = [past_of(log, day) for day in log.tuning]
    cosines = [one for one in grids()["implicit cosine"] if isinstance(one, Implicit)]
    cosine = max(cosines[:n_settings], key=lambda one: mean_figures(tuning, one)[0])
    tasks = dict(zip(log.judged, log_tasks(log)[1], strict=True))
    for day, figures in folds.items():
        task, past = tasks[day], past_of(log, day)
        draws = draw(user_keys(task.names), seed)
        by_user = {
            "implicit ALS": figures_of(task, *fit_implicit(task.weights, setting), setting.norm_exponent),
            "implicit cosine": judge_by_user(past, cosine),
        }
        n_ours = int(figures[Figure(POPULAR_28, ALL, "recall", K)].n[0])
        assert n_ours == len(task.names), f"{day}: expected {n_ours} judged users, got {len(task.names)}"
        for name, values in by_user.items():
            for at, metric in enumerate(("recall", "ndcg")):
                figures[Figure(name, ALL, metric, K)] = tally(values[:, at], draws)


def summary(folds: Folds) -> dict[str, Any]:
    """Intervals of all lists, what the blends have over the best single source, and the ratio to popularity."""
    found: dict[str, Any] = {}
    for name in list_names(folds):
        found[name] = {metric: rounded(mean_interval(of(folds, name, metric))) for metric in ("recall", "ndcg")}
    others = (*BLENDS, "published", "implicit ALS", "implicit cosine", "most engaged in 28 days")
    single = max(
        (name for name in found if name not in (*others, "most engaged of all time")),
        key=lambda name: found[name]["recall"][0],
    )
    found["best single"] = single
    for name in (blend for blend in BLENDS if blend in found):
        short = name.removeprefix("blend/")
        metrics = ("recall", "ndcg")
        found[f"{short} - best single"] = {
            metric: rounded(difference(of(folds, name, metric), of(folds, single, metric))) for metric in metrics
        }
        found[f"{short} / popular"] = rounded(ratio(of(folds, name, "recall"), of(folds, POPULAR_28, "recall")))
    return found


def of(folds: Folds, name: str, metric: str) -> Any:
    return tallies(folds, Figure(name, ALL, metric, K))


def rounded(interval: Interval) -> list[float]:
    return [round(one, 4) for one in (interval.estimate, interval.low, interval.high)]


if __name__ == "__main__":
    main()
