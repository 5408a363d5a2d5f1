"""What is published on the first day, by the defaults alone, on five real logs; beside every source and `implicit`.

    uv run --group bench python tests/benchmarks/judge_defaults.py --folder DATA --work DIR
                                                                   [--log NAME] [--part ours|peers|none]

DATA has the folders online_retail_ii, movietweetings_142k, goodbooks_10k, toys_sequences and citeulike_a.
Protocol.  Online Retail II: six dates, MovieTweetings: three; each is a first run, with no run before it; judged is
what users who were known went on to within 28 days that was new to them and known to anybody.  goodbooks (to-read) and
citeulike: a fifth of what each user has is held out, by chance (seed 0), events.clock = none; toys: the last item of
each user, events.clock = order.  recall@20, of toys HR@10; lists hold nothing that a user has.
Ours: what the reader returns after `recsys-spark run`, and every source's list alone, as its settings were chosen.
Sources that are off, or were left out, are run once more by themselves.  Two fusions of the run's lists stand beside
them: reciprocal ranks, and equal weights of standard scores.
Peers: `implicit`, fed the same events (counts): ALS with 64 and 128 factors x alpha 1, 10, 50 x ridge 1, 10, 100, then
256 and 512 factors at the two best of 128, cosine and BM25 with 50 and 200 neighbours; the best on what is held out of
the training events in the same way.
New items (logs called ..._new): the catalogue with its tags is known, and what anybody had of a twentieth of the items
(seed 0) is taken out of the training events; "new:" rows are recall of these items alone, published, and of the list of
content alone, "old:" rows of all others, "all:" rows of both; published is also run with content off.
Synthetic logs (planted_logs.py): ours alone, without user_cf.
Every row is stored below DIR as soon as it is made, and not made again.  The last line is JSON: by log the mean of each
list, and paired 95 % intervals of the ratios of published to the best source and to the best peer.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from recsys_spark.cli.demo.logs import write_catalogue, write_events
from recsys_spark.cli.demo.story import LOG_STARTS, write_settings
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.features.declared import declared_tables
from recsys_spark.ingest.step_ingest import ingest, ingest_catalogue
from recsys_spark.numeric.bootstrap import Interval, draw, ratio, tally, user_keys
from recsys_spark.pipeline.runner import run_day
from recsys_spark.serving.bundle import open_current
from recsys_spark.spark.session import open_session
from recsys_spark.warehouse.delta_rs import open_delta, table_path
from recsys_spark.warehouse.ledger import create_tables
from tests.benchmarks.planted_logs import DAYS, SPECS, START, planted_log
from tests.benchmarks.report import finish

WINDOW, SEED, HELD_OUT = 28, 0, 0.2
LONGEST, RRF_K = 200, 60
SOURCES = ("popular", "item_cf", "als", "low_pass", "successors", "user_cf")
FACTORS, ALPHAS, RIDGES, NEIGHBORS = (64, 128, 256, 512), (1.0, 10.0, 50.0), (1.0, 10.0, 100.0), (50, 200)


class Part(NamedTuple):
    """One run: what it may see, and what it is judged on.  targets: by user.  day: None, where there is no clock."""

    name: str
    train: pd.DataFrame
    targets: dict[str, set[str]]
    day: date | None


@dataclass(frozen=True)
class Log:
    """A log by its name: how it is read (user_id, item_id, event_time or position), its clock, its dates."""

    name: str
    clock: str
    k: int
    dates: tuple[date, ...] = ()
    catalogue: str = ""

    def parts(self, folder: Path, n_users: int | None = None) -> Iterator[Part]:
        """The runs to judge; n_users: of a made log."""
        name = self.name.removesuffix("_new")
        events = planted_log(name, n_users) if name in SPECS else READ[name](folder)
        if not self.dates:
            train, later = held_out(events, self.clock, np.random.default_rng(SEED), HELD_OUT)
            new: set[str] = set()
            if self.catalogue:
                items = np.unique(events["item_id"])
                new = set(np.random.default_rng(SEED).choice(items, len(items) // 20, replace=False).tolist())
                train = train[~train["item_id"].isin(new)]
            yield Part(self.name, train, targets_of(train, later, new), None)
        for day in self.dates:
            train, later = before(events, day), within(events, day, day + timedelta(days=WINDOW))
            yield Part(f"{self.name}-{day}", train, targets_of(train, later), day)


LOGS = (
    Log("online_retail_ii", "time", 20, tuple(date(2011, month, 1) for month in range(5, 11))),
    Log("movietweetings", "time", 20, tuple(date(2013, month, 1) for month in range(6, 9))),
    Log("goodbooks", "none", 20),
    Log("toys", "order", 10),
    Log("citeulike", "none", 20),
    Log("citeulike_new", "none", 20, catalogue="citeulike_a"),
    Log("toys_new", "order", 10, catalogue="toys_sequences"),
    *(
        Log(name, spec.clock, 20, ((START + timedelta(days=DAYS - WINDOW)).date(),) if spec.clock == "time" else ())
        for name, spec in SPECS.items()
    ),
)


def read_shop(folder: Path) -> pd.DataFrame:
    lines = pq.read_table(folder / "online_retail_ii" / "transactions.parquet").to_pandas()
    lines = lines[lines["is_merchandise"] & lines["user_id"].notna() & (lines["line_type"] == "purchase")]
    return lines.rename(columns={"invoice_time": "event_time"})[["user_id", "item_id", "event_time"]]


def read_films(folder: Path) -> pd.DataFrame:
    return pq.read_table(folder / "movietweetings_142k" / "interactions.parquet").to_pandas()


def read_books(folder: Path) -> pd.DataFrame:
    found = pq.read_table(folder / "goodbooks_10k" / "interactions.parquet").to_pandas()
    return found[found["event_type"] == "to_read"][["user_id", "item_id"]].drop_duplicates()


def read_toys(folder: Path) -> pd.DataFrame:
    return pq.read_table(folder / "toys_sequences" / "interactions.parquet").to_pandas()


def read_articles(folder: Path) -> pd.DataFrame:
    return pq.read_table(folder / "citeulike_a" / "interactions.parquet").to_pandas()[["user_id", "item_id"]]


READ: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    "online_retail_ii": read_shop,
    "movietweetings": read_films,
    "goodbooks": read_books,
    "toys": read_toys,
    "citeulike": read_articles,
}


def before(events: pd.DataFrame, day: date) -> pd.DataFrame:
    return events[events["event_time"] < pd.Timestamp(day, tz="UTC")]


def within(events: pd.DataFrame, first: date, end: date) -> pd.DataFrame:
    return before(events[events["event_time"] >= pd.Timestamp(first, tz="UTC")], end)


def held_out(
    events: pd.DataFrame, clock: str, rng: np.random.Generator, share: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is known, and what is held out: the last of each user, or a share of what each has, by chance."""
    if clock == "order":
        is_held = events["position"] == events.groupby("user_id")["position"].transform("max")
    else:
        is_held = pd.Series(rng.random(len(events)) < share, index=events.index)
    return events[~is_held], events[is_held]


def targets_of(
    train: pd.DataFrame, later: pd.DataFrame, new: set[str] | frozenset[str] = frozenset()
) -> dict[str, set[str]]:
    """What known users went on to that was new to them and known to anybody, or is one of `new`."""
    items = set(train["item_id"].unique()) | new
    known = later[later["user_id"].isin(train["user_id"].unique()) & later["item_id"].isin(items)]
    pairs = set(zip(known["user_id"], known["item_id"], strict=True)) - set(
        zip(train["user_id"], train["item_id"], strict=True)
    )
    found: dict[str, set[str]] = {}
    for user, item in sorted(pairs):
        found.setdefault(user, set()).add(item)
    return found


def recalls(lists: Mapping[str, Sequence[str]], targets: Mapping[str, set[str]], k: int) -> np.ndarray:
    """recall@k of every judged user, in their order; 0 for who has no list."""
    return np.array(
        [len(wanted.intersection(lists.get(user, ())[:k])) / len(wanted) for user, wanted in targets.items()]
    )


class Store:
    """Rows below a folder: one file of recalls by user for each part and list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, part: Part, name: str, values: np.ndarray, **said: Any) -> None:
        """Stores a row."""
        mean = float(values.mean()) if len(values) else float("nan")
        print(f"{part.name:28s} {name:34s} {mean:.4f} {json.dumps(said) if said else ''}", flush=True)
        record = {"users": list(part.targets), "values": values.tolist(), **said}
        path = self.folder / f"{part.name}--{name.replace('/', '_')}.json"
        path.with_suffix(".new").write_text(json.dumps(record))
        path.with_suffix(".new").rename(path)

    def has(self, part: str, name: str) -> bool:
        """Whether the row is there."""
        return (self.folder / f"{part}--{name.replace('/', '_')}.json").exists()

    def rows(self, part: str) -> dict[str, dict[str, Any]]:
        """The rows of a part by the name of the list."""
        found = sorted(self.folder.glob(f"{part}--*.json"))
        found = [path for path in found if not path.stem.endswith("--done")]
        return {path.stem.split("--")[1]: json.loads(path.read_text()) for path in found}


def land(log: Log, part: Part, place: Path) -> Path:
    """The files that a team would drop, and its settings; of the shop those of the demo but for its sources."""
    place.mkdir(parents=True)
    if log.name == "online_retail_ii":
        assert part.day is not None
        write_events(place / "landing", LOG_STARTS, part.day)
        write_catalogue(place / "landing", part.day)
        settings = write_settings(place)
        lines = settings.read_text().split("[sources]")[0]
        settings.write_text(lines)
        return settings
    events = place / "landing" / "events"
    events.mkdir(parents=True)
    rows = part.train.copy()
    if log.clock == "time":
        rows["event_time"] = rows["event_time"].map(lambda time: time.isoformat())
    columns = [name for name in ("user_id", "item_id", "event_time", "position") if name in rows]
    rows[columns].to_json(events / "events.jsonl", orient="records", lines=True)
    settings = place / "recsys.toml"
    settings.write_text(
        f'[storage]\nroot = "{place / "warehouse"}"\n[landing]\nevents = "{events}"\nitems = ""\nusers = ""\n'
        f'[events]\nclock = "{log.clock}"\ndefault_type = "had"\n[events.types.had]\nweight = 1.0\n'
    )
    return settings


def publish(spark: SparkSession, config: Config, part: Part) -> str:
    """The run of the part, its first."""
    create_tables(config.root, declared_tables().values())
    for take_in in (ingest_catalogue, ingest):
        take_in(spark, config)
    report = run_day(spark, config, part.day)
    for note in report.notes:
        print(f"  {note}", flush=True)
    return report.run_id


def published(config: Config, part: Part) -> dict[str, list[str]]:
    """What the reader returns to every judged user."""
    bundle = open_current(str(config.root))
    return {user: [one.item_id for one in bundle.candidates(user).items] for user in part.targets}


class Said(NamedTuple):
    """A list as a source made it.  items: its own ones, then what other sources propose; scores: of all of these.

    user: None, for everybody.  mean, deviation: of the user's scores over all items.
    """

    source: str
    user: str | None
    items: list[str]
    scores: np.ndarray
    n_own: int
    mean: float
    deviation: float


def said(config: Config, run_id: str) -> list[Said]:
    """What the sources of a run proposed to single users, and to everybody."""
    tables = {}
    for name in ("source_candidates", "user_index", "item_index"):
        table = open_delta(table_path(config.root, name)).to_pyarrow_table(filters=[("run_id", "=", run_id)])
        tables[name] = table
    users = dict(zip(*(tables["user_index"][name].to_pylist() for name in ("user_idx", "user_id")), strict=True))
    items = dict(zip(*(tables["item_index"][name].to_pylist() for name in ("item_idx", "item_id")), strict=True))
    found = []
    for row in tables["source_candidates"].drop_columns(["run_id"]).to_pylist():
        if row["segment"] is None:
            listed = [items[one["item_idx"]] for one in row["items"]]
            scores = np.array([one["score"] for one in row["items"]], np.float64)
            user = None if row["user_idx"] is None else users[row["user_idx"]]
            n_own = len(listed) if row["n_own"] is None else row["n_own"]
            moments = row["mean"] or 0.0, row["deviation"] or 0.0
            found.append(Said(row["source"], user, listed, scores, n_own, *moments))
    return found


def alone(lists: Sequence[Said], part: Part) -> dict[str, dict[str, list[str]]]:
    """By source the list of every judged user, as the source made it; of a list for everybody what they do not have."""
    had = part.train.groupby("user_id")["item_id"].agg(set).to_dict()
    found: dict[str, dict[str, list[str]]] = {}
    for one in lists:
        of_source = found.setdefault(one.source, {})
        if one.user is not None:
            of_source[one.user] = one.items[: one.n_own][:LONGEST]
        else:
            near = one.items[: 10 * LONGEST]
            of_source |= {user: [item for item in near if item not in had[user]][:LONGEST] for user in part.targets}
    return found


def fused(lists: Sequence[Said], part: Part) -> dict[str, dict[str, list[str]]]:
    """The two ways to fuse that need no choice: reciprocal ranks of all lists, and equal weights of standard scores."""
    by_rank: dict[str, dict[str, float]] = {user: {} for user in part.targets}
    by_score: dict[str, dict[str, float]] = {user: {} for user in part.targets}
    for of_source in alone(lists, part).values():
        for user in part.targets:
            for rank, item in enumerate(of_source.get(user, ()), start=1):
                by_rank[user][item] = by_rank[user].get(item, 0.0) + 1 / (RRF_K + rank)
    for one in lists:
        if one.user in by_score and one.deviation > 0:
            totals = by_score[one.user]
            for item, score in zip(one.items, (one.scores - one.mean) / one.deviation, strict=True):
                totals[item] = totals.get(item, 0.0) + float(score)
    # Lists that are fused by reciprocal ranks have no scores of what other lists propose.
    return {
        name: {user: sorted(one, key=lambda item: -one[item]) for user, one in totals.items()}
        for name, totals in (("fusion: reciprocal ranks", by_rank), ("fusion: equal weights", by_score))
        if any(totals.values())
    }


def judge_ours(spark: SparkSession, log: Log, part: Part, store: Store, work: Path) -> None:
    """Rows of what is published, and of every source alone."""
    if store.has(part.name, "done"):
        return
    place = work / part.name
    shutil.rmtree(place, ignore_errors=True)
    file = land(log, part, place)
    config = load_config(file=file)
    run_id = publish(spark, config, part)
    store.put(part, "published", recalls(published(config, part), part.targets, log.k))
    lists = said(config, run_id)
    for name, of_way in fused(lists, part).items():
        store.put(part, name, recalls(of_way, part.targets, log.k))
    mine = alone(lists, part)
    sources = SOURCES[:-1] if log.name in SPECS else SOURCES
    made = [*mine, *store.rows(part.name)]
    left = [name for name in sources if not any(one.split("/")[0] == name for one in made)]
    if log.clock == "none":
        left = [name for name in left if name != "successors"]
    others = f"sources.enabled={json.dumps(left)}"
    if left:
        mine |= alone(said(config, publish(spark, load_config(file=file, sets=(others,)), part)), part)
    for name, of_source in mine.items():
        store.put(part, name, recalls(of_source, part.targets, log.k))
    store.put(part, "done", np.zeros(0))
    shutil.rmtree(place / "warehouse")


def judge_new(spark: SparkSession, log: Log, part: Part, store: Store, work: Path, folder: Path) -> None:
    """Rows of items that nobody had, and of all others: published, content alone, and published without content."""
    if store.has(part.name, "all: published without content"):
        return
    place = work / part.name
    shutil.rmtree(place, ignore_errors=True)
    file, items = land(log, part, place), place / "landing" / "items"
    items.mkdir()
    catalogue = pq.read_table(folder / log.catalogue / "items.parquet").to_pandas()
    catalogue["tags"] = catalogue["tags"].map(list)
    catalogue.to_json(items / "items.jsonl", orient="records", lines=True)
    file.write_text(file.read_text().replace('items = ""', f'items = "{items}"'))
    had = set(part.train["item_id"].unique())
    sides = {
        "new": {user: wanted - had for user, wanted in part.targets.items() if wanted - had},
        "old": {user: wanted & had for user, wanted in part.targets.items() if wanted & had},
        "all": part.targets,
    }
    usual = ["popular", "item_cf", "als", "low_pass", *(["successors"] if log.clock == "order" else [])]
    runs = {"published": (), "content": ('sources.enabled=["content"]',)}
    runs["published without content"] = (f"sources.enabled={json.dumps(usual)}",)
    for name, sets in runs.items():
        config = load_config(file=file, sets=sets)
        run_id = publish(spark, config, part)
        lists = alone(said(config, run_id), part)[name] if name == "content" else published(config, part)
        for side, targets in sides.items():
            store.put(part._replace(targets=targets), f"{side}: {name}", recalls(lists, targets, log.k))
    shutil.rmtree(place / "warehouse")


def judge_peers(log: Log, parts: Sequence[Part], store: Store) -> None:
    """Rows of `implicit`, at the setting that finds most of what is held out of the first part's training events."""
    from tests.benchmarks.peers_implicit import Setting, Task, lists_of, tried

    if all(store.has(part.name, "implicit") for part in parts):
        return
    first = parts[0]
    if log.clock == "time":
        assert first.day is not None
        cut = first.day - timedelta(days=WINDOW)
        known, later = before(first.train, cut), within(first.train, cut, first.day)
    else:
        known, later = held_out(first.train, log.clock, np.random.default_rng(SEED + 1), HELD_OUT)
        cut = None
    tuning = Task.of(known, targets_of(known, later), available_on(cut), log.k)
    rows = store.folder / f"{log.name}--tuning.jsonl"
    grid: list[Setting] = [(kind, n, 0.0, 0.0) for kind in ("cosine", "bm25") for n in NEIGHBORS]
    grid += [("als", *one) for one in product(FACTORS[:2], ALPHAS, RIDGES)]
    done = tried(tuning, grid, rows)
    at_128 = sorted((one for one in grid if one[:2] == ("als", 128)), key=lambda one: done[one])
    grid += [("als", n, *one[2:]) for n in FACTORS[2:] for one in at_128[-2:]]
    done = tried(tuning, grid, rows)
    setting = max(grid, key=lambda one: done[one])
    for part in parts:
        task = Task.of(part.train, part.targets, available_on(part.day), log.k)
        values = recalls(lists_of(task, setting), part.targets, log.k)
        store.put(part, "implicit", values, setting=setting, tuned=done[setting])


def available_on(day: date | None) -> Any:
    """Items must have been had since then, as by our default; None: whenever."""
    return (
        None
        if day is None
        else pd.Timestamp(datetime(day.year, day.month, day.day, tzinfo=UTC)) - pd.Timedelta(days=WINDOW)
    )


def summary(log: Log, parts: Sequence[str], store: Store) -> dict[str, Any]:
    """Means of every list over the parts, and published over the best source and over `implicit`, paired."""
    rows = [store.rows(part) for part in parts]
    if log.catalogue:
        means = {name: float(np.mean(row["values"])) for one in rows for name, row in one.items()}
        return {"lists": {name: round(value, 4) for name, value in means.items()}}
    rows = [one for one in rows if "published" in one]
    if not rows:
        return {}
    names = set.intersection(*(set(one) for one in rows))
    means = {name: float(np.mean([np.mean(one[name]["values"]) for one in rows])) for name in sorted(names)}
    singles = [name for name in means if name not in ("published", "implicit") and not name.startswith("fusion")]
    best = max(singles, key=lambda name: means[name])
    draws = [draw(user_keys(one["published"]["users"]), SEED) for one in rows]

    def over(other: str) -> list[float]:
        sides = [
            [tally(np.array(one[name]["values"]), drawn) for one, drawn in zip(rows, draws, strict=True)]
            for name in ("published", other)
        ]
        found: Interval = ratio(*sides)
        return [round(value, 4) for value in (found.estimate, found.low, found.high)]

    found = {"n_parts": len(rows), "lists": {name: round(value, 4) for name, value in means.items()}}
    found |= {"best source": best, "published / best source": over(best)}
    return found | ({"published / implicit": over("implicit")} if "implicit" in means else {})


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the rows that are not there yet, and prints what they come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--log", choices=[log.name for log in LOGS])
    parser.add_argument("--part", choices=("ours", "peers", "none"))
    parser.add_argument("--users", type=int, help="of made logs; by default as specified")
    parser.add_argument("--no-bars", action="store_true")
    asked = parser.parse_args(argv)
    store, found = Store(asked.work / "rows"), {}
    for log in (log for log in LOGS if asked.log in (None, log.name)):
        parts = list(log.parts(asked.folder, asked.users))
        if asked.part in (None, "ours"):
            spark = open_session("judge defaults", asked.work)
            for part in parts:
                if log.catalogue:
                    judge_new(spark, log, part, store, asked.work, asked.folder)
                else:
                    judge_ours(spark, log, part, store, asked.work)
        if asked.part in (None, "peers") and not log.catalogue and log.name not in SPECS:
            judge_peers(log, parts, store)
        found[log.name] = summary(log, [part.name for part in parts], store)
    bars = [one["published / best source"][0] >= 0.98 for one in found.values() if "best source" in one]
    finish(found, asked, within_bars=all(bars))


if __name__ == "__main__":
    main()
