"""The commit point of a day: one row in `publishes`, on top of the head that the audit saw, or none.

Owns: every row of `publishes` and the state that a run ends in.
"""

import logging
from datetime import UTC, datetime
from typing import Any

from recsys_spark.config.schema import Config
from recsys_spark.errors import ArgumentError, DamagedError, LockedError
from recsys_spark.failpoint import failpoint
from recsys_spark.features.declared import declared_tables
from recsys_spark.pipeline.run_ledger import COMPLETED, OpenRun, RunLedger
from recsys_spark.plan import BUNDLE_TABLES
from recsys_spark.warehouse.arrow import schema_hash
from recsys_spark.warehouse.blobs import check_run_blobs
from recsys_spark.warehouse.current_publish import publishes_folder, read_head, read_history
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.publish_row import PublishRow, seal_row
from recsys_spark.warehouse.run_files import last_version, list_run
from recsys_spark.warehouse.tables import PUBLISHES

_log = logging.getLogger(__name__)


def history(root: Location) -> tuple[PublishRow, ...]:
    """Every publish and rollback in order, checked; the last is the head.  Raises DamagedError if one is damaged."""
    return read_history(root) if publishes_folder(root).exists() else ()


def current_row(root: Location) -> PublishRow | None:
    """What is current, None before the first publish."""
    return read_head(root)[0] if publishes_folder(root).exists() else None


def commit(config: Config, ledger: RunLedger, run: OpenRun, audited_on: int) -> str:
    """Publishes an audited run: `published`, or `backfilled` if a later date is current and stays so.

    audited_on: publish_seq of the head that the audit compared with, 0 for none.  Raises LockedError if another run
    was published since then, or wins the race for the same row.
    """
    root = config.root
    version = last_version(root, PUBLISHES.name)
    current = current_row(root)
    current_seq = current.publish_seq if current else 0
    if current_seq != audited_on:
        raise LockedError(
            f"publishes: expected publish {audited_on} to be current, as when run {run.run_id} was audited, got "
            f"{current_seq}; another run was published meanwhile: run the date again if it is still wanted"
        )
    if current and run.data_date < current.data_date:
        return _end(ledger, run, "backfilled")
    failpoint("publish.before_commit")
    _append(root, _publish_row(config, ledger, run, current_seq), version)
    failpoint("publish.after_commit")
    return _end(ledger, run, "published")


def rollback_to(config: Config, run_id: str) -> int:
    """Makes a completed run current again and returns the new publish_seq; nothing is moved or rewritten.

    Raises ArgumentError if the run was never completed, DamagedError if its rows, or the weights and shards that they
    name, are no longer all in storage.
    """
    root = config.root
    version = last_version(root, PUBLISHES.name)
    rows, ledger = history(root), RunLedger(root)
    completed = {row["run_id"]: row for row in ledger.runs() if row["state"] in COMPLETED}
    if run_id not in completed:
        known = ", ".join(completed) or "none"
        raise ArgumentError(f"--to: expected a completed run, got {run_id}; completed are {known}")
    earlier = next((row for row in reversed(rows) if row.run_id == run_id), None)
    run = completed[run_id]
    tables = [dict(table) for table in earlier.as_row()["tables"]] if earlier else _tables(ledger, run_id)
    for table in tables:
        stored = list_run(table_path(root, table["name"]), table["name"], run_id, None)
        if stored.n_rows != table["n_rows"]:
            raise DamagedError(
                f"{table['name']} run_id={run_id}: expected {table['n_rows']} rows, got {stored.n_rows}; "
                "the run was collected or damaged: choose another one"
            )
        for file in stored.files:
            stored.checked_path(file)
    check_run_blobs(root, run_id, {table["name"] for table in tables})
    current_seq = rows[-1].publish_seq if rows else 0  # none if the table was lost and begun anew
    _append(root, seal_row(_fields(config, run, current_seq) | {"kind": "rollback", "tables": tables}), version)
    return current_seq + 1


def _publish_row(config: Config, ledger: RunLedger, run: OpenRun, current_seq: int) -> dict[str, Any]:
    written = ledger.tables_of(run.run_id)
    if missing := [name for name in BUNDLE_TABLES if name not in written]:
        raise ArgumentError(
            f"step publish: expected the tables {', '.join(missing)} of run {run.run_id}, got none; run the steps that "
            "write them first"
        )
    fields = _fields(config, vars(run), current_seq)
    return seal_row(fields | {"kind": "publish", "tables": _tables(ledger, run.run_id)})


def _fields(config: Config, run: dict[str, Any], current_seq: int) -> dict[str, Any]:
    """What every row says besides its kind and tables."""
    names = ("run_id", "data_date", "config_hash", "code_version")
    return {name: run[name] for name in names} | {
        "publish_seq": current_seq + 1,
        "prev_seq": current_seq,
        "grace_hours": config.publish.grace_hours,
        "published_at": datetime.now(UTC),
    }


def _tables(ledger: RunLedger, run_id: str) -> list[dict[str, Any]]:
    """The tables of a bundle, as its steps recorded them and its audit found them in storage."""
    contracts, written = declared_tables(), ledger.tables_of(run_id)
    return [
        {
            "name": name,
            "rel_path": f"tables/{name}",
            "delta_version": last_version(ledger.root, name),
            "n_rows": written[name]["n_rows"][name],
            "content_hash": written[name]["content_hashes"][name],
            "schema_hash": schema_hash(contracts[name]),
        }
        for name in BUNDLE_TABLES
        if name in written  # a run of an earlier version lacks what is newer
    ]


def _append(root: Location, row: dict[str, Any], version: int) -> None:
    """Commits `row` on `version` of `publishes`; if the reply is lost, what storage holds decides."""
    try:
        append_rows(root, PUBLISHES, [row], at_version=version)
        failpoint("publish.reply_lost")
    except Exception:
        current = current_row(root)
        if current is None or current.row_sha256 != row["row_sha256"]:
            raise
        _log.warning("publish_seq=%d committed, though the reply to the commit was lost", current.publish_seq)
    current = current_row(root)
    if current is None or current.row_sha256 != row["row_sha256"]:
        raise LockedError(
            f"publishes: expected publish {row['publish_seq']} to be {row['run_id']}, got another one; "
            "look at `recsys-spark status`, then run the date again if it is still wanted"
        )


def _end(ledger: RunLedger, run: OpenRun, state: str) -> str:
    ledger.record_state(run.run_id, state)
    return state
