"""Collection of what nobody can be reading any more: rows of old runs, then the files behind them.

Owns: which runs are kept.  Called by `recsys-spark gc` under the lock, never by a publish.  No Spark: a partition is
dropped by one entry of the Delta log.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from recsys_spark.config import Config
from recsys_spark.features import declared_tables
from recsys_spark.run_ledger import latest_runs, record_state
from recsys_spark.tables.blobs import drop_blobs, named_blobs
from recsys_spark.tables.catalog import PUBLISHES, RANKING_EXAMPLES
from recsys_spark.tables.collect import delete_run, vacuum
from recsys_spark.tables.delta_log import runs_with_rows
from recsys_spark.tables.lease import LEASES
from recsys_spark.tables.ledger import create_tables, read_rows
from recsys_spark.tables.scratch import drop_scratch, runs_with_scratch


@dataclass(frozen=True)
class Collected:
    """What a collection did: runs whose rows were deleted, files removed, runs kept."""

    runs: tuple[str, ...]
    n_files: int
    kept: tuple[str, ...]


def collect(config: Config, now: datetime) -> Collected:
    """Deletes the rows of runs that are not kept, then files that were removed from their table before the grace.

    A bundle stays readable for the grace after it was superseded: its rows are deleted no sooner, and the files of
    deleted rows, and the blobs that they named, live for another grace, in which a reader that holds the bundle reads
    on.
    """
    root = config.root
    create_tables(root, declared_tables().values())  # the warehouse may be older than one of them
    kept = runs_to_keep(config, now)
    run_tables = [table for table in declared_tables().values() if table.family in ("bundle", "work")]
    stored = {table.name: runs_with_rows(root, table.name) for table in run_tables}
    kept_of = {table.name: kept for table in run_tables} | {RANKING_EXAMPLES.name: kept | _with_examples(config)}
    gone = sorted(set().union(*(stored[name] - kept_of[name] for name in stored)) - kept)
    for table in run_tables:
        for run_id in sorted(stored[table.name] - kept_of[table.name]):
            delete_run(root, table, run_id)
    # After rows are deleted: the grace of what they named begins now.
    n_files = drop_blobs(root, named_blobs(root), now, config.publish.grace_hours)
    for row in latest_runs(root):
        if row["state"] == "open" and row["run_id"] in gone:
            # Its steps are recorded as done, but their rows are gone: nobody may resume it.
            record_state(root, row, "abandoned")
    unfinished = {row["run_id"] for row in latest_runs(root) if row["state"] == "open"}
    for run_id in set(runs_with_scratch(root)) - unfinished:
        drop_scratch(root, run_id)
    vacuumed = run_tables if isinstance(root, Path) else [*run_tables, LEASES]  # which is written anew at every lock
    n_files += sum(vacuum(root, table, config.publish.grace_hours) for table in vacuumed)
    return Collected(tuple(gone), n_files, tuple(sorted(kept)))


def runs_to_keep(config: Config, now: datetime) -> set[str]:
    """The current run, the newest published and unfinished ones as configured, and those within their grace."""
    root = config.root
    published = sorted(read_rows(root, PUBLISHES), key=lambda row: row["publish_seq"])
    kept = {row["run_id"] for row in published[-1:]}
    kept |= _within_grace(published, now)
    kept |= set(_newest([row["run_id"] for row in published], config.publish.keep_published))
    runs = latest_runs(root)
    grace = timedelta(hours=config.publish.grace_hours)
    worked_on = {row["run_id"] for row in runs if row["state"] == "open" and now - row["recorded_at"] < grace}
    kept |= set(_newest([row["run_id"] for row in runs if row["state"] == "backfilled"], config.publish.keep_published))
    unfinished = [row["run_id"] for row in runs if row["state"] in ("open", "refused", "abandoned")]
    left = [run_id for run_id in unfinished if run_id not in worked_on]
    return kept | worked_on | set(_newest(left, config.publish.keep_failed))


def _with_examples(config: Config) -> set[str]:
    """The newest published runs, whose examples outlive their lists: a model trains on many days of them."""
    published = sorted(read_rows(config.root, PUBLISHES), key=lambda row: row["publish_seq"])
    return set(_newest([row["run_id"] for row in published], config.publish.keep_examples))


def _within_grace(published: list[dict[str, Any]], now: datetime) -> set[str]:
    """Runs that were superseded less than their promised grace ago."""
    return {
        before["run_id"]
        for before, after in pairwise(published)
        if now - after["published_at"] < timedelta(hours=before["grace_hours"])
    }


def _newest(run_ids: list[str], count: int) -> list[str]:
    """The last `count` different names, in their order."""
    return list(dict.fromkeys(reversed(run_ids)))[:count]
