"""Runs as the ledgers know them: which run of a date is open, what it is pinned to, which steps it has done.

Owns: `runs` and `run_steps`.
"""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from hashlib import sha256
from typing import Any

from recsys_spark import __version__, package_root
from recsys_spark.config.load import config_hash
from recsys_spark.config.schema import Config, derive_seed
from recsys_spark.ingest.rules import rules_of
from recsys_spark.ingest.values import midnight
from recsys_spark.plan import PINNED
from recsys_spark.warehouse.ledger import append_rows, read_rows, steps_of
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.run_files import last_version
from recsys_spark.warehouse.run_id import make_run_id
from recsys_spark.warehouse.tables import INGEST_BATCHES, PUBLISHES, RUN_STEPS, RUNS

COMPLETED = ("published", "backfilled")  # the states of a run whose bundle is whole


@dataclass(frozen=True)
class OpenRun:
    """A run that is being worked on.

    pins: Delta version per input table.  base_run_id: the newest publish with an earlier data_date.  done: its
    completed steps.
    """

    run_id: str
    data_date: date
    pins: dict[str, int]
    base_run_id: str | None
    seed: int
    config_hash: str
    code_version: str
    done: frozenset[str]


def find_or_open_run(config: Config, day: date) -> tuple[OpenRun, str]:
    """The run of `day` for today's inputs, configuration and code, and its state.

    state: `open` (new or resumed), or `published` / `backfilled` when the last completed run of the day is the same.
    An open run of the day whose inputs, rules, configuration or code have changed is abandoned; its rows stay until gc.
    """
    root = config.root
    runs = [row for row in latest_runs(root) if row["data_date"] == day]
    hashed, code = config_hash(config), code_version()
    fingerprint = sha256(
        json.dumps([hashed, code, rules_of(root, day)[0], *input_batches(root, day)]).encode()
    ).hexdigest()
    published = {row["run_id"] for row in read_rows(root, PUBLISHES)}
    for row in runs:
        if row["state"] == "open" and row["run_id"] in published:
            # Killed between the commit, which decides, and this record of it.
            record_state(root, row, "published")
            row["state"] = "published"
    completed = [row for row in runs if row["state"] in COMPLETED]
    # Only the last completed run counts as the same: settings that were changed and changed back make a new one.
    for row in (*completed[-1:], *(row for row in runs if row["state"] == "open")):
        if row["fingerprint"] == fingerprint:
            return _as_open_run(root, row), row["state"]
    for row in runs:
        if row["state"] == "open":
            record_state(root, row, "abandoned")
    row = {
        "run_id": make_run_id(day, len(runs) + 1, fingerprint),
        "data_date": day,
        "state": "open",
        "fingerprint": fingerprint,
        "config_hash": hashed,
        "code_version": code,
        "pins": {name: last_version(root, name) for name in PINNED},
        "base_run_id": _base_run(root, day),
        "seed": derive_seed(config.run.seed, "run", day),
    }
    record_state(root, row, "open")
    return _as_open_run(root, row), "open"


def latest_runs(root: Location) -> list[dict[str, Any]]:
    """The newest row of every run, in the order in which the runs were opened."""
    newest: dict[str, dict[str, Any]] = {}
    for row in sorted(read_rows(root, RUNS), key=lambda row: row["recorded_at"]):
        newest[row["run_id"]] = row
    return list(newest.values())


def run_of(root: Location, run_id: str) -> OpenRun:
    """The run called `run_id`, whatever became of it; KeyError if there is none."""
    return _as_open_run(root, {row["run_id"]: row for row in latest_runs(root)}[run_id])


def record_state(root: Location, row: dict[str, Any], state: str) -> None:
    """Appends the run with a new state."""
    append_rows(root, RUNS, [row | {"state": state, "recorded_at": datetime.now(UTC)}])


def refuse_run(root: Location, run_id: str) -> None:
    """Records that the run is not to be resumed: the date is run anew."""
    record_state(root, next(row for row in latest_runs(root) if row["run_id"] == run_id), "refused")


def record_step(root: Location, row: dict[str, Any]) -> None:
    """Appends a completed step; its outputs are staged and checked by then."""
    append_rows(root, RUN_STEPS, [row | {"recorded_at": datetime.now(UTC)}])


@cache
def code_version() -> str:
    """Version and hash of the product's own source as this process found it: changed code makes a new run."""
    digest = sha256()
    package = package_root()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:12]}"


def input_batches(root: Location, day: date) -> list[int]:
    """Ingest batches that a run of `day` can see: those that brought anything before it."""
    cutoff = midnight(day)
    done = [row for row in read_rows(root, INGEST_BATCHES) if row["state"] == "done"]
    return sorted(
        row["batch_seq"] for row in done if row["min_event_time"] is not None and row["min_event_time"] < cutoff
    )


def _base_run(root: Location, day: date) -> str | None:
    earlier = [row for row in read_rows(root, PUBLISHES) if row["data_date"] < day]
    return max(earlier, key=lambda row: row["publish_seq"])["run_id"] if earlier else None


def _as_open_run(root: Location, row: dict[str, Any]) -> OpenRun:
    return OpenRun(
        run_id=row["run_id"],
        data_date=row["data_date"],
        pins=dict(row["pins"]),
        base_run_id=row["base_run_id"],
        seed=row["seed"],
        config_hash=row["config_hash"],
        code_version=row["code_version"],
        done=frozenset(steps_of(root, row["run_id"])),
    )
