"""The demo: a shop's log arrives, a date is run and published, and four weeks later we see what the lists were worth.

Owns: the story and what it prints.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.cli.demo.holdout import WINDOW_DAYS
from recsys_spark.cli.demo.judge import judge_bundle
from recsys_spark.cli.demo.logs import read_purchases, write_catalogue, write_events
from recsys_spark.cli.demo.peak_memory import PeakMemory
from recsys_spark.cli.views.index import show_index
from recsys_spark.cli.views.lookup import show_related_of, show_user_of
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.errors import ArgumentError
from recsys_spark.features.declared import declared_tables
from recsys_spark.serving.bundle import open_current
from recsys_spark.two_tower.dimensions import check_torch, uses_towers
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.locks import warehouse_lock
from recsys_spark.warehouse.run_files import last_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MARKER = ".recsys-demo"
LOG_STARTS = date(2009, 12, 1)
DAILY_FROM = date(2011, 9, 9)  # the days before arrive as one batch
RUN_DAY = date(2011, 9, 12)

# A customer who comes often, one from abroad, and one who was last seen more than a year before the date.
SHOWN_USERS = ("13199", "12569", "12777")
SHOWN_CANDIDATES = 10

# The item that most customers bought, and how many related items are shown beside it.
SHOWN_ITEM, SHOWN_RELATED = "85123A", 5

# Only the JVM's fast compiler (C1): a demo is too short to earn back what the optimising one costs.  C1's default code
# cache of 48 MiB is full after two minutes of Spark, and then nothing is compiled any more.
_FAST_START = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m",
}

_SETTINGS = """\
# Settings of the demo: what a team writes for its own logs.  All others are in conf/base.toml.

[storage]
root = {root}

[landing]
events = {events}
items = {items}
users = {users}

[events.types.purchase]
value_transform = "log"             # 48 pieces of an item are more than one, but not 48 times as much

[events.types.return]
weight = -1.0
value_transform = "log"

[segments]
attribute = "country"

[sources]
enabled = {sources}

[ann]
search = "ann"                      # so few items are searched exactly otherwise
"""


@dataclass(frozen=True)
class Demo:
    """What the scenes of the demo share.  seconds: wall time per scene, in order."""

    console: Console
    config: Config
    landing: Path
    log_starts: date
    spark: "SparkSession"
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def scene(self, title: str) -> Iterator[None]:
        """A heading, and the wall time of what happens under it."""
        self.console.rich.rule(f"[bold]{title}")
        started = time.perf_counter()
        yield
        self.seconds[title] = time.perf_counter() - started


def run_demo(
    console: Console, folder: Path, towers: bool = False, log_starts: date = LOG_STARTS, sets: tuple[str, ...] = ()
) -> None:
    """Plays the whole story in `folder`; an earlier demo there is replaced.

    towers: with the two-tower model and its index, which needs torch.  log_starts, sets: the first day of the log, and
    settings laid over the demo's; the defaults are what the README tells of.  Raises ArgumentError if `folder` holds
    anything else, EnvironmentFault if torch is asked for and not there.
    """
    from recsys_spark.spark.session import open_session

    started = time.perf_counter()
    if towers:
        check_torch("demo --towers")
    prepare_folder(folder)
    settings = write_settings(folder, towers)
    config = load_config(file=settings, sets=sets)
    with PeakMemory() as memory, warehouse_lock(config.root, "demo"):
        create_tables(config.root, declared_tables().values())
        console.say("starting Spark ...")
        spark = open_session("recsys-spark demo", config.root, _FAST_START)
        demo = Demo(console, config, folder / "landing", log_starts, spark)
        demo.seconds["start of Spark"] = time.perf_counter() - started
        try:
            play(demo)
        finally:
            spark.stop()
    _show_times(demo, time.perf_counter() - started, memory.peak_bytes)
    _show_next(console, settings, config.root)


def prepare_folder(folder: Path) -> None:
    """Makes `folder` an empty demo folder; raises ArgumentError if it holds anything but an earlier demo."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ArgumentError(f"--folder: expected a folder, got {folder}, which is a file or a link; give another")
    if (folder / MARKER).is_file():
        with warehouse_lock(folder / "warehouse", "demo"):  # nobody is in the middle of something there
            shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise ArgumentError(
            f"--folder: expected a new or empty folder, or one of an earlier demo, got {folder} with other files in it;"
            " give another, or move them away"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text("Made by `recsys-spark demo`, which replaces this folder when it runs again.\n")
    except OSError as err:
        raise ArgumentError(
            f"--folder: expected a folder that can be written, got {folder} ({err.strerror}); give another"
        ) from err


def write_settings(folder: Path, towers: bool = False) -> Path:
    """The settings file that was written: what differs from the defaults, with paths below `folder`."""
    # A JSON string is a TOML string, whatever stands in the path.
    paths = {feed: json.dumps(str(folder / "landing" / feed)) for feed in ("events", "items", "users")}
    settings = folder / "recsys.toml"
    sources = json.dumps(["popular", "item_cf", "als", *(["two_tower"] if towers else [])])
    root = json.dumps(str(folder / "warehouse"))
    settings.write_text(_SETTINGS.format(root=root, sources=sources, **paths), encoding="utf-8")
    return settings


def play(demo: Demo) -> None:
    """The story, from the first log file to what the published lists were worth."""
    with demo.scene("1  Two years of logs arrive"):
        _drop(demo, demo.log_starts, DAILY_FROM)
        _take_in(demo)
    with demo.scene("2  Three more days, one by one"):
        for day in (DAILY_FROM + timedelta(days=n) for n in range((RUN_DAY - DAILY_FROM).days)):
            _drop(demo, day, day + timedelta(days=1))
            _take_in(demo)
    with demo.scene(f"3  {RUN_DAY} is run and published"):
        _run(demo)
        if uses_towers(demo.config):
            show_index(open_current(demo.config.root), demo.config, demo.console)
    with demo.scene("4  The same date again"):
        _run_again(demo)
    bundle = open_current(demo.config.root)
    with demo.scene("5  Three customers, and what goes with an item"):
        for user_id in SHOWN_USERS:
            show_user_of(bundle, user_id, SHOWN_CANDIDATES, None, demo.console)
        for user in (None, SHOWN_USERS[0]):
            show_related_of(bundle, SHOWN_ITEM, user, SHOWN_RELATED, demo.console)
    with demo.scene(f"6  {WINDOW_DAYS} days later"):
        _drop(demo, RUN_DAY, RUN_DAY + timedelta(days=WINDOW_DAYS))
        _take_in(demo)
        judge_bundle(demo.spark, demo.config.root, bundle, read_purchases(), demo.console)


def _drop(demo: Demo, first: date, end: date) -> None:
    """The shop's export: an event file per day of [first, end), and the catalogue as it stands when `end` begins."""
    started = time.perf_counter()
    events, catalogue = write_events(demo.landing, first, end), write_catalogue(demo.landing, end)
    days = f"{first}" if end - first == timedelta(days=1) else f"{first} to {end - timedelta(days=1)}"
    closed = "" if events.n_files else " (the shop was closed)"
    demo.console.say(
        f"{days}: {events.n_files} event files with {events.n_lines:,} lines{closed}, catalogue with"
        f" {catalogue.n_lines:,} rows, written in {time.perf_counter() - started:.1f} s"
    )


def _take_in(demo: Demo) -> None:
    """Ingest of what was dropped, as `recsys-spark ingest` does it."""
    from recsys_spark.ingest.step_ingest import ingest, ingest_catalogue

    with demo.console.progress("ingest") as observe:
        reports = [take_in(demo.spark, demo.config, progress=observe) for take_in in (ingest_catalogue, ingest)]
    for report in reports:
        demo.console.ingested(report)


def _run(demo: Demo) -> None:
    from recsys_spark.pipeline.runner import run_day

    with demo.console.progress("run") as observe:
        report = run_day(demo.spark, demo.config, RUN_DAY, observe)
    demo.console.finished(report)


def _run_again(demo: Demo) -> None:
    """Runs the date once more and tells by the versions of all tables whether anything was written."""
    before = _versions(demo.config.root)
    _run(demo)
    changed = [name for name, version in _versions(demo.config.root).items() if version != before[name]]
    demo.console.say(
        f"tables with a new version: {', '.join(changed) or 'none'}; {len(before) - len(changed)} of {len(before)}"
        " stand as they were"
    )


def _versions(root: Location) -> dict[str, int]:
    """Newest Delta version of every table."""
    return {name: last_version(root, name) for name in declared_tables()}


def _show_times(demo: Demo, seconds: float, peak_bytes: int | None) -> None:
    demo.console.rich.rule("[bold]What it took")
    table = Table("scene", "seconds")
    for title, taken in demo.seconds.items():
        table.add_row(title, f"{taken:.1f}")
    table.add_row("all", f"{seconds:.1f}")
    demo.console.rich.print(table)
    peak = "was not measured: this system has no /proc" if peak_bytes is None else f"{peak_bytes / (1 << 30):.2f} GiB"
    demo.console.say(f"peak memory of Python, JVM and workers together: {peak}")


def _show_next(console: Console, settings: Path, root: Location) -> None:
    console.rich.rule("[bold]Where to go next")
    for command in (
        f"lookup {SHOWN_USERS[0]} --config {settings}",
        f"related {SHOWN_ITEM} --user {SHOWN_USERS[0]} --config {settings}",
        f"status --config {settings}",
        f"run --config {settings}",
        "init FOLDER_WITH_YOUR_LOGS",
    ):
        console.rich.print(f"  uv run recsys-spark {command}", markup=False, soft_wrap=True)
    console.rich.print(
        f"  from a service: recsys_spark.reader.open_current({str(root)!r}).candidates({SHOWN_USERS[0]!r})",
        markup=False,
        soft_wrap=True,
    )
