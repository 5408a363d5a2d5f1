"""What the published candidates are worth on two real logs: the whole product, date by date, against popularity.

    uv run --group bench python tests/benchmarks/judge_published.py [--learn] [--folder DIR] [--set section.key=value]

Each log is taken in once; then every judged date of `compare_item_cf.py` is run and published with the defaults, and
the lists that the reader returns are judged by the protocol of `kernels/holdout.py`.  Popularity is of the same day.
--learn: the weights of lists are learnt from the run of the date before (candidates.method, learn_runs = 1); the tuning
dates are run too, and not judged, so that the first judged date has one.
The last line is JSON: by log recall and ndcg of the published lists and of popularity, means over the dates.
"""

import argparse
import gzip
import json
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.config_file import load_config
from recsys_spark.demo import LOG_STARTS, write_settings
from recsys_spark.demo_logs import write_catalogue, write_events
from recsys_spark.features import declared_tables
from recsys_spark.kernels.holdout import Figures, hold_out, judge_lists, judge_order, popular_items
from recsys_spark.reader import open_current
from recsys_spark.runner import run_day
from recsys_spark.session import open_session
from recsys_spark.steps.catalog import ingest_catalogue
from recsys_spark.steps.ingest import ingest
from recsys_spark.tables.ledger import create_tables
from tests.benchmarks.compare_item_cf import AVAILABLE_DAYS, MOVIETWEETINGS, K, Log, movietweetings, online_retail

POPULAR = {"popular, 28 days": AVAILABLE_DAYS, "popular, all time": None}
# Shops close at Christmas, before which one of the tuning dates lies.
CLOSED = ("audit.max_days_without_events=30", "audit.weekday_weeks=0")
LEARN = ('candidates.method="learned"', "candidates.learn_runs=1", *CLOSED)
MOVIE_SETTINGS = """\
[events.types.rating]
weight = 1.0
"""


def main() -> None:
    """Runs every judged date of both logs and prints one table for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--learn", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="recsys-judge-"))
    spark = open_session("judge published", folder / "spark.log")
    figures = {}
    for log, land in ((online_retail(), land_shop), (movietweetings(), land_films)):
        days = [*log.tuning, *log.judged] if arguments.learn else log.judged
        settings = land(folder / log.name.replace(" ", "-"), replace(log, judged=days))
        config = load_config(file=settings, sets=(*(LEARN if arguments.learn else ()), *arguments.sets))
        create_tables(config.root, declared_tables().values())
        for take_in in (ingest_catalogue, ingest):
            take_in(spark, config)
        figures[log.name] = judged(spark, config, log, days)
    spark.stop()
    print(json.dumps(figures))


def land_shop(folder: Path, log: Log) -> Path:
    """The invoice lines of the shop, and its catalogue as it stood on every judged date; the settings of the demo."""
    folder.mkdir(parents=True)
    write_events(folder / "landing", LOG_STARTS, log.judged[-1])
    for day in log.judged:
        write_catalogue(folder / "landing", day)
    return write_settings(folder)


def land_films(folder: Path, log: Log) -> Path:
    """The ratings as one file a day; a film that was rated was watched, whatever the rating."""
    events = folder / "landing" / "events"
    events.mkdir(parents=True)
    ratings = pq.read_table(MOVIETWEETINGS)
    days = pc.strftime(ratings["event_time"], format="%Y-%m-%d").to_numpy()
    for day in np.unique(days).tolist():
        rows = ratings.filter(days == day).to_pylist()
        text = "".join(json.dumps(row | {"event_time": row["event_time"].isoformat()}) + "\n" for row in rows)
        (events / f"{day}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    settings = folder / "recsys.toml"
    feeds = f'events = "{events}"\nitems = ""\nusers = ""\n'
    settings.write_text(f'[storage]\nroot = "{folder / "warehouse"}"\n[landing]\n{feeds}{MOVIE_SETTINGS}')
    return settings


def judged(spark: SparkSession, config: Config, log: Log, days: list[date]) -> dict[str, list[float]]:
    """Recall and ndcg of the published lists and of popularity, means over judged dates; `days` are run."""
    found: dict[str, list[Figures]] = {}
    print(f"\n{log.name}: recall@{K} / ndcg@{K}\n\n| as of | published | {' | '.join(POPULAR)} |\n|---|---|---|---|")
    for day in days:
        started = time.perf_counter()
        run_day(spark, config, day)
        if day not in log.judged:
            continue
        seconds = time.perf_counter() - started
        row = judge_day(config, log, day)
        cells = " | ".join(f"{one.recall:.4f} / {one.ndcg:.4f}" for one in row.values())
        print(f"| {day} | {cells} | ({seconds:.0f} s)", flush=True)
        for name, one in row.items():
            found.setdefault(name, []).append(one)
    means = {
        name: [round(float(np.mean([getattr(one, metric) for one in dates])), 4) for metric in ("recall", "ndcg")]
        for name, dates in found.items()
    }
    print("| mean | " + " | ".join(f"{recall:.4f} / {ndcg:.4f}" for recall, ndcg in means.values()) + " |")
    return means


def judge_day(config: Config, log: Log, day: date) -> dict[str, Figures]:
    """Figures of a published date."""
    bundle, holdout = open_current(config.root), hold_out(log.purchases, day)
    assert bundle.data_date == day
    lists = {user: [one.item_id for one in bundle.candidates(user).items] for user in holdout.users}
    found = {"published": judge_lists(lists, holdout, K)}
    for name, days in POPULAR.items():
        found[name] = judge_order(popular_items(log.purchases, day, days), holdout, K)
    return found


if __name__ == "__main__":
    main()
