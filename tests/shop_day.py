"""The day of a small shop, killed in its fit, resumed and published: run once a test run, for tests of many files.

Tests that change a warehouse take a copy: of the published one, or of the one that nothing was published in yet.
"""

import fcntl
import os
import pickle
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.pipeline.gates.verdict import forced_gates
from recsys_spark.pipeline.runner import RunReport, run_day
from recsys_spark.warehouse.scratch import runs_with_scratch
from tests.death import dies_at
from tests.ledgers import latest_runs
from tests.small_shop import FIRST_DAY, events_of, land_catalogue, land_days, land_events, make_shop
from tests.whole_day import run_whole_day

N_DAYS = 20
DAY = FIRST_DAY + timedelta(days=N_DAYS)

# Each is a user who bought one thing, which has the same id.
ODD_IDS = ["é", "e\u0301", "שלום", "👩‍👩‍👧", "nul\x00in", "line\nfeed", "tab\t", '"quoted"', "'single'"]
ODD_IDS += ["../up", "a/b", "a\\b", "%2e%2e", "null", "NaN", " leading", "trailing ", "0", "00", "-1", "1e3", "True"]
ODD_IDS += ["{}", "[]", "$x", "`x`", "a,b", ";"]
ODD_IDS += ["\u202eright", "x" * 256]

# Lists have room for everything; the day is published in spite of the gate on first places, which refuses it else.
SETS = ("candidates.k=60", "audit.max_top_item_share=0.01")
FORCED = forced_gates(["top_item_share"], "everybody begins with what they do not have")


@dataclass(frozen=True)
class ShopDay:
    """What is left of the day.

    report: of the run that went on after the kill.  At the kill: the run that was open, its scratch, the halves of the
    fit in it.  unaudited: the warehouse as the audit found it.
    """

    config: Config
    report: RunReport
    killed_run: str
    with_scratch: list[str]
    halves: list[str]
    unaudited: Path


def engaged_items() -> set[str]:
    """All items that anybody bought."""
    days = [FIRST_DAY + timedelta(days=at) for at in range(N_DAYS)]
    return {event["item_id"] for day in days for event in events_of(day)} | set(ODD_IDS)


@pytest.fixture(scope="session")
def shop_day(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> ShopDay:
    """The first day of a shop with a catalogue and with odd ids, killed when the factors of users were staged.

    Of the workers of a parallel test run the first makes it, for all; nobody changes it.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _run_shop(spark, tmp_path_factory.mktemp("shop"))
    made = tmp_path_factory.getbasetemp().parent / "shop_day.pickle"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            day = _run_shop(spark, tmp_path_factory.mktemp("shop"))
            made.with_suffix(".new").write_bytes(pickle.dumps(day))
            made.with_suffix(".new").rename(made)
        found: ShopDay = pickle.loads(made.read_bytes())
        return found


def _run_shop(spark: SparkSession, folder: Path) -> ShopDay:
    config = make_shop(folder, *SETS)
    land_catalogue(config, FIRST_DAY)
    land_days(config, FIRST_DAY, N_DAYS)
    base = events_of(FIRST_DAY, 1)[0]
    odd = [base | {"user_id": one, "item_id": one, "event_id": str(at)} for at, one in enumerate(ODD_IDS)]
    land_events(config, FIRST_DAY, odd, "odd-ids.jsonl.gz")
    with dies_at("stage.after_user_factors"):
        run_whole_day(spark, config)
    killed = latest_runs(config.root)[-1]["run_id"]
    halves = [path.name for path in config.root.glob(f"_scratch/{killed}/als/half-*.json")]
    scratch = list(runs_with_scratch(config.root))

    def keep(step: str, phase: str, figures: dict[str, float]) -> None:
        if (step, phase) == ("audit", "start"):
            shutil.copytree(config.root, folder / "unaudited")

    report = run_day(spark, config, DAY, keep, FORCED)
    return ShopDay(config, report, killed, scratch, halves, folder / "unaudited")


def copy_shop(warehouse: Path, folder: Path, *sets: str) -> Config:
    """Settings of the shop, with others laid over them, for a copy of `warehouse` in `folder`."""
    shutil.copytree(warehouse, folder / "warehouse")
    return make_shop(folder, *SETS, *sets)


def lose_a_file(config: Config, table: str) -> None:
    """Deletes a file of the newest run with the checksum that Hadoop keeps beside it: an object store has none."""
    run_id = latest_runs(config.root)[-1]["run_id"]
    lost = next((Path(config.root) / "tables" / table / f"run_id={run_id}").glob("*.parquet"))
    lost.unlink()
    (lost.parent / f".{lost.name}.crc").unlink(missing_ok=True)
