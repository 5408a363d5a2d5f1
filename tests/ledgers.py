"""The ledgers of runs as a command that has just begun sees them."""

from datetime import date
from typing import Any

from recsys_spark.config.schema import Config
from recsys_spark.pipeline import publish
from recsys_spark.pipeline.run_ledger import OpenRun, RunLedger
from recsys_spark.warehouse.location import Location


def find_or_open_run(config: Config, day: date) -> tuple[OpenRun, str]:
    return RunLedger(config.root).find_or_open(config, day)


def latest_runs(root: Location) -> list[dict[str, Any]]:
    return RunLedger(root).runs()


def record_state(root: Location, row: dict[str, Any], state: str) -> None:
    RunLedger(root).record_state(row["run_id"], state)


def record_step(root: Location, row: dict[str, Any]) -> None:
    RunLedger(root).record_step(row)


def commit(config: Config, run: OpenRun, audited_on: int) -> str:
    return publish.commit(config, RunLedger(config.root), run, audited_on)
