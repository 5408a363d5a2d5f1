"""Ten days in a row of Online Retail II, as a shop runs them: each day's log arrives, is run, published and collected.

    uv run --group bench python tests/benchmarks/ten_days.py [--first 2011-09-05] [--days 10] [--log-from 2009-12-01]
                                                [--folder DIR] [--towers]

The log before the first date is ingested first, and its time is not counted.  Every date is run on top of the one
before (warm starts), its bundle is judged by the next one (hindsight), and `gc` runs after each, as if its grace had
passed.  Days on which the shop was closed are run too.  Prints the seconds of every step by date, the bytes that the
tables list and that are on disk, and the recall that hindsight measured.
The last line is JSON: day3_s, day10_s, ratio (at most 1.3 is asked for), bytes after the third and the last gc.
Exit status 1 if the last day took more than 1.3 times the third.
"""

import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from recsys_spark.cli.demo.logs import write_catalogue, write_events
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.features.declared import declared_tables
from recsys_spark.ingest.step_ingest import ingest, ingest_catalogue
from recsys_spark.pipeline.gc import collect
from recsys_spark.pipeline.hindsight_trend import trend
from recsys_spark.pipeline.run_ledger import RunLedger
from recsys_spark.pipeline.runner import RunReport, run_day
from recsys_spark.spark.session import open_session
from recsys_spark.warehouse.delta_rs import table_path, vacuum
from recsys_spark.warehouse.ledger import create_tables
from tests.benchmarks.report import finish, size_options

MOST_RATIO = 1.3


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the days and prints what they took."""
    parser = size_options(__doc__, days=10)
    parser.add_argument("--first", type=date.fromisoformat, default=date(2011, 9, 5))
    parser.add_argument("--log-from", type=date.fromisoformat, default=date(2009, 12, 1), help="first day of the log")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--towers", action="store_true")
    asked = parser.parse_args(argv)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="recsys-days-"))
    config = settings(folder, asked.towers)
    create_tables(config.root, declared_tables().values())
    spark = open_session("ten days", folder)
    write_catalogue(folder / "landing", asked.first)
    ingest_catalogue(spark, config)
    write_events(folder / "landing", asked.log_from, asked.first - timedelta(days=1))
    ingest(spark, config, history=True)
    reports, walls, stored = [], [], []
    for day in (asked.first + timedelta(days=at) for at in range(asked.days)):
        write_events(folder / "landing", day - timedelta(days=1), day)
        started = time.perf_counter()
        ingest(spark, config)
        reports.append(run_day(spark, config, day))
        walls.append(time.perf_counter() - started)
        collect(config, datetime.now(UTC) + timedelta(hours=config.publish.grace_hours + 1))
        stored.append(listed_bytes(config))
        print(f"{day}: {walls[-1]:.1f} s, {reports[-1].outcome}, {stored[-1] / 1e6:,.1f} MB listed", flush=True)
    spark.stop()
    show_steps(reports, walls)
    for one in trend(RunLedger(config.root)):
        print(f"hindsight as of {one.day}: recall@{one.k} {one.recall:.4f} ({one.low:.4f} to {one.high:.4f}), popular "
              f"{one.popular:.4f}, {one.n_users} users")  # fmt: skip
    before = disk_bytes(config)
    for table in declared_tables().values():
        if table.family in ("bundle", "work"):
            vacuum(config.root, table, 0)
    third, last = min(2, len(walls) - 1), len(walls) - 1
    found = {
        "day3_s": round(walls[third], 1),
        "day10_s": round(walls[last], 1),
        "ratio": round(walls[last] / walls[third], 2),
        "listed_mb_day3": round(stored[third] / 1e6, 1),
        "listed_mb_last": round(stored[last] / 1e6, 1),
        "disk_mb_before_vacuum": round(before / 1e6, 1),
        "disk_mb_after_vacuum": round(disk_bytes(config) / 1e6, 1),
    }
    finish(found, asked, within_bars=found["ratio"] <= MOST_RATIO)


def settings(folder: Path, towers: bool) -> Config:
    landing = [f"landing.{feed}={folder / 'landing' / feed}" for feed in ("events", "items", "users")]
    sources = '["popular","item_cf","als","two_tower"]' if towers else '["popular","item_cf","als"]'
    kinds = "events.types={purchase={value_transform='log'},return={weight=-1.0,value_transform='log'}}"
    return load_config(
        sets=(
            f"storage.root={folder / 'warehouse'}",
            *landing,
            f"sources.enabled={sources}",
            kinds,
            "segments.attribute=country",
        )
    )


def show_steps(reports: list[RunReport], walls: list[float]) -> None:
    """Seconds of every step, a column a date."""
    names = list(dict.fromkeys(name for report in reports for name in report.seconds))
    print(f"{'seconds':<14}" + "".join(f"{report.data_date:%m-%d}".rjust(8) for report in reports))
    for name in names:
        print(f"{name:<14}" + "".join(f"{report.seconds.get(name, 0):8.1f}" for report in reports))
    print(f"{'with ingest':<14}" + "".join(f"{wall:8.1f}" for wall in walls))


def listed_bytes(config: Config) -> int:
    """Bytes of the files that the newest versions of all run tables list."""
    from deltalake import DeltaTable

    total = 0
    for table in declared_tables().values():
        if table.family in ("bundle", "work"):
            actions = DeltaTable(table_path(config.root, table.name)).get_add_actions(flatten=True)
            total += sum(actions["size_bytes"].to_pylist()) if actions.num_rows else 0
    return total


def disk_bytes(config: Config) -> int:
    return sum(path.stat().st_size for path in config.root.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
