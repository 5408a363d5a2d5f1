"""Run ledger: which run of a date is open, which table versions it is pinned to, which steps it has done.

Owns: `runs` and `run_steps`.
"""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache, cached_property
from hashlib import sha256
from typing import Any, cast

from recsys_spark import __version__, package_root
from recsys_spark.config.load import config_hash
from recsys_spark.config.schema import Config, derive_seed
from recsys_spark.ingest.rules import rules_of
from recsys_spark.ingest.values import midnight
from recsys_spark.plan import PINNED
from recsys_spark.two_tower.dimensions import lacks_torch
from recsys_spark.warehouse.ledger import append_rows, read_rows
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


class RunLedger:
    """The ledgers `runs` and `run_steps` as one command sees them: each is read once, what it appends is added to both.

    What other commands append meanwhile is not seen: a command that writes opens it under its lock.  A command of many
    dates opens one for each, under the lock of that date.  What services ask of steps is `warehouse.ledger.steps_of`.
    """

    def __init__(self, root: Location) -> None:
        self.root = root

    @cached_property
    def states(self) -> list[dict[str, Any]]:
        """Every row of `runs`, the oldest first: a run has one for each state that it came to."""
        return sorted(read_rows(self.root, RUNS), key=_recorded_at)

    @cached_property
    def step_rows(self) -> list[dict[str, Any]]:
        """Every row of `run_steps`, the oldest first."""
        return sorted(read_rows(self.root, RUN_STEPS), key=_recorded_at)

    def runs(self) -> list[dict[str, Any]]:
        """The newest row of every run, in the order in which the runs were opened."""
        newest: dict[str, dict[str, Any]] = {}
        for row in self.states:
            newest[row["run_id"]] = row
        return list(newest.values())

    def completed_dates(self) -> list[date]:
        """The dates that have a completed run, ascending."""
        return sorted({row["data_date"] for row in self.runs() if row["state"] in COMPLETED})

    def steps_of(self, run_id: str) -> dict[str, dict[str, Any]]:
        """The completed steps of a run by name; a step that was run again counts with its newest row."""
        return {row["step"]: row for row in self.step_rows if row["run_id"] == run_id}

    def tables_of(self, run_id: str) -> dict[str, dict[str, Any]]:
        """For every table that a run has written the row of the step that wrote it."""
        return {name: row for row in self.steps_of(run_id).values() for name in row["n_rows"]}

    def run_of(self, run_id: str) -> OpenRun:
        """The run called `run_id`, whatever became of it; KeyError if there is none."""
        return self._as_open_run(self._newest(run_id))

    def record_state(self, run_id: str, state: str) -> None:
        """Appends the run with a new state."""
        self._append_state(self._newest(run_id), state)

    def record_step(self, row: dict[str, Any]) -> None:
        """Appends a completed step; its outputs are staged and checked by then."""
        row = row | {"recorded_at": datetime.now(UTC)}
        append_rows(self.root, RUN_STEPS, [row])
        self.step_rows.append(row)

    def find_or_open(self, config: Config, day: date) -> tuple[OpenRun, str]:
        """The run of `day` for today's inputs, configuration and code, and its state.

        state: `open` (new or resumed), or `published` / `backfilled` when the last completed run of the day is the
        same.  An open run of the day whose inputs, rules, configuration or code have changed is abandoned; its rows
        stay until gc.
        """
        hashed, code = config_hash(config), code_version()
        inputs = [hashed, code, rules_of(self.root, day)[0], *input_batches(self.root, day)]
        if lacks_torch(config):  # the same date is another run once torch is there
            inputs.append("without torch")
        fingerprint = sha256(json.dumps(inputs).encode()).hexdigest()
        published = read_rows(self.root, PUBLISHES)
        self._settle(day, {row["run_id"] for row in published})
        runs = [row for row in self.runs() if row["data_date"] == day]
        completed = [row for row in runs if row["state"] in COMPLETED]
        # Only the last completed run counts as the same: settings that were changed and changed back make a new one.
        for row in (*completed[-1:], *(row for row in runs if row["state"] == "open")):
            if row["fingerprint"] == fingerprint:
                return self._as_open_run(row), row["state"]
        for row in runs:
            if row["state"] == "open":
                self.record_state(row["run_id"], "abandoned")
        row = {
            "run_id": make_run_id(day, len(runs) + 1, fingerprint),
            "data_date": day,
            "fingerprint": fingerprint,
            "config_hash": hashed,
            "code_version": code,
            "pins": {name: last_version(self.root, name) for name in PINNED},
            "base_run_id": _base_run(published, day),
            "seed": derive_seed(config.run.seed, "run", day),
        }
        self._append_state(row, "open")
        return self._as_open_run(row), "open"

    def _settle(self, day: date, published: set[str]) -> None:
        """Records runs of `day` as published that were killed between the commit, which decides, and this record."""
        for row in self.runs():
            if row["data_date"] == day and row["state"] == "open" and row["run_id"] in published:
                self.record_state(row["run_id"], "published")

    def _newest(self, run_id: str) -> dict[str, Any]:
        return {row["run_id"]: row for row in self.states}[run_id]

    def _append_state(self, row: dict[str, Any], state: str) -> None:
        row = row | {"state": state, "recorded_at": datetime.now(UTC)}
        append_rows(self.root, RUNS, [row])
        self.states.append(row)

    def _as_open_run(self, row: dict[str, Any]) -> OpenRun:
        return OpenRun(
            run_id=row["run_id"],
            data_date=row["data_date"],
            pins=dict(row["pins"]),
            base_run_id=row["base_run_id"],
            seed=row["seed"],
            config_hash=row["config_hash"],
            code_version=row["code_version"],
            done=frozenset(self.steps_of(row["run_id"])),
        )


def _recorded_at(row: dict[str, Any]) -> datetime:
    return cast(datetime, row["recorded_at"])


@cache
def code_version() -> str:
    """Version and hash of the product's own source as this process found it: changed code makes a new run."""
    digest = sha256()
    package = package_root()
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] == "airflow_dags":  # carried by a wheel, and no code of a run
            continue
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:12]}"


def input_batches(root: Location, day: date) -> list[int]:
    """Ingest batches that a run of `day` can see: those that brought anything before it."""
    cutoff = midnight(day)
    done = [row for row in read_rows(root, INGEST_BATCHES) if row["state"] == "done"]
    return sorted(
        row["batch_seq"] for row in done if row["min_event_time"] is not None and row["min_event_time"] < cutoff
    )


def _base_run(published: list[dict[str, Any]], day: date) -> str | None:
    earlier = [row for row in published if row["data_date"] < day]
    return max(earlier, key=lambda row: row["publish_seq"])["run_id"] if earlier else None
