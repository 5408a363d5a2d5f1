"""Garbage collection: deletes rows of old runs that nobody can be reading any more, then the files behind them.

Owns: which runs are kept, and that nothing is deleted from a warehouse whose ledgers do not agree on them.  No Spark: a
partition is dropped by one entry of the Delta log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from recsys_spark.config.schema import Config
from recsys_spark.errors import DamagedError
from recsys_spark.features.declared import declared_tables
from recsys_spark.pipeline.run_ledger import COMPLETED, RunLedger
from recsys_spark.warehouse.blobs import drop_blobs, named_blobs
from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.current_publish import read_history, rows_without_commit
from recsys_spark.warehouse.delta_rs import delete_run, vacuum
from recsys_spark.warehouse.ledger import stored_tables
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.locks import LEASES
from recsys_spark.warehouse.publish_row import PublishRow, restore
from recsys_spark.warehouse.run_files import open_published, runs_with_rows
from recsys_spark.warehouse.scratch import drop_scratch, runs_with_scratch
from recsys_spark.warehouse.tables import CANDIDATE_LISTS, PUBLISHES, RANKING_EXAMPLES, RUNS


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
    on.  No table is made.  Raises DamagedError, before anything is deleted, if the current bundle or a ledger is not
    whole.
    """
    root = config.root
    published = read_history(root)
    run_tables = _whole_tables(root, published)
    stored = {table.name: runs_with_rows(root, table.name) for table in run_tables}
    ledger = RunLedger(root)
    _check_ledgers(ledger, published, stored)
    kept = runs_to_keep(config, ledger, published, now)
    kept_of = dict.fromkeys(stored, kept) | {RANKING_EXAMPLES.name: kept | _with_examples(config, published)}
    gone = sorted(set().union(*(stored[name] - kept_of[name] for name in stored)) - kept)
    for table in run_tables:
        for run_id in sorted(stored[table.name] - kept_of[table.name]):
            delete_run(root, table, run_id)
    # After rows are deleted: the grace of what they named begins now.
    n_files = drop_blobs(root, named_blobs(root, stored), now, config.publish.grace_hours)
    for row in ledger.runs():
        if row["state"] == "open" and row["run_id"] in gone:
            # Its steps are recorded as done, but their rows are gone: nobody may resume it.
            ledger.record_state(row["run_id"], "abandoned")
    unfinished = {row["run_id"] for row in ledger.runs() if row["state"] == "open"}
    for run_id in set(runs_with_scratch(root)) - unfinished:
        drop_scratch(root, run_id)
    vacuumed = run_tables if isinstance(root, Path) else [*run_tables, LEASES]  # each lock rewrites LEASES
    n_files += sum(vacuum(root, table, config.publish.grace_hours) for table in vacuumed)
    return Collected(tuple(gone), n_files, tuple(sorted(kept)))


def _whole_tables(root: Location, published: Sequence[PublishRow]) -> list[Table]:
    """The tables of the warehouse with rows of runs; DamagedError if one lost its log, or the current bundle a file.

    The current bundle is checked as by a reader that opens it.
    """
    named = {table.name for row in published for table in row.tables}
    tables = [one for one in declared_tables().values() if one.family in ("bundle", "work")]
    stored_tables(root, [RUNS], needed=())
    stored = stored_tables(root, tables, needed={CANDIDATE_LISTS.name, *named})
    for table in published[-1].tables if published else ():
        open_published(root, table, published[-1].run_id)
    return stored


def _check_ledgers(ledger: RunLedger, published: Sequence[PublishRow], stored: Mapping[str, set[str]]) -> None:
    """Raises DamagedError if `publishes` or `runs` lacks rows that another place still knows of.

    A table that lost its newest commit is whole, but shorter.  What tells: a run that counts as published in `runs`, a
    row in a file without a commit, and a run with rows, in `stored` by table, that neither ledger names.
    """
    runs = {row["run_id"]: row for row in ledger.runs()}
    named = {row.run_id for row in published}
    if unknown := sorted(set().union(*stored.values()) - named - set(runs)):
        fault = f"expected every run that has rows, got none of {', '.join(unknown)}"
        raise DamagedError(f"{RUNS.name}: {fault}; {restore(RUNS.name)}")
    # A run whose lists were collected is not missed: nobody can go back to it.
    unnamed = stored[CANDIDATE_LISTS.name] - named
    missing = [row for run_id, row in runs.items() if row["state"] == "published" and run_id in unnamed]
    missing.sort(key=lambda row: row["recorded_at"])
    lost = {row["run_id"]: "published by the ledger runs" for row in missing}
    for row in _rows_after(ledger.root, published[-1:]):
        # If the run is not completed, its writer was killed before the commit, and the run is still open.  A rollback
        # killed at that place looks like one whose commit is lost: to do it again mends both.
        if row.run_id in runs and runs[row.run_id]["state"] in COMPLETED:
            lost.pop(row.run_id, None)  # the run that was made current last comes last
            lost[row.run_id] = f"publish {row.publish_seq}, of which the commit is lost"
    if lost:
        found = ", ".join(f"{run_id} ({why})" for run_id, why in lost.items())
        again = ", then ".join(f"`recsys-spark rollback --to {run_id}`" for run_id in lost)
        raise DamagedError(
            f"{PUBLISHES.name}: expected no publish after {len(published)}, got {found}; {restore(PUBLISHES.name)}, or "
            f"make current again what is lost, with {again}"
        )


def _rows_after(root: Location, head: Sequence[PublishRow]) -> list[PublishRow]:
    """Rows without a commit that would follow the head.

    A row that lost a race has an old number; a row that a later one made current again has an old time.
    """
    return [
        row
        for row in rows_without_commit(root)
        if all(row.publish_seq > one.publish_seq and row.published_at > one.published_at for one in head)
    ]


def runs_to_keep(config: Config, ledger: RunLedger, published: Sequence[PublishRow], now: datetime) -> set[str]:
    """The current run, the newest published and unfinished ones as configured, and those within their grace.

    published: the history of publishes, the newest last.
    """
    kept = {row.run_id for row in published[-1:]}
    kept |= _within_grace(published, now)
    kept |= set(_newest([row.run_id for row in published], config.publish.keep_published))
    runs = ledger.runs()
    grace = timedelta(hours=config.publish.grace_hours)
    worked_on = {row["run_id"] for row in runs if row["state"] == "open" and now - row["recorded_at"] < grace}
    kept |= set(_newest([row["run_id"] for row in runs if row["state"] == "backfilled"], config.publish.keep_published))
    unfinished = [row["run_id"] for row in runs if row["state"] in ("open", "refused", "abandoned")]
    left = [run_id for run_id in unfinished if run_id not in worked_on]
    return kept | worked_on | set(_newest(left, config.publish.keep_failed))


def _with_examples(config: Config, published: Sequence[PublishRow]) -> set[str]:
    """The newest published runs, whose examples outlive their lists: a model trains on many days of them."""
    return set(_newest([row.run_id for row in published], config.publish.keep_examples))


def _within_grace(published: Sequence[PublishRow], now: datetime) -> set[str]:
    """Runs that were superseded less than their promised grace ago."""
    return {
        before.run_id
        for before, after in pairwise(published)
        if now - after.published_at < timedelta(hours=before.grace_hours)
    }


def _newest(run_ids: list[str], count: int) -> list[str]:
    """The last `count` different names, in their order."""
    return list(dict.fromkeys(reversed(run_ids)))[:count]
