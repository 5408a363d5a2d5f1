"""The audit reads storage back: what was lost after the write is found, and nothing is published."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.errors import DamagedError, GateRefused
from recsys_spark.failpoint import FailpointReached
from recsys_spark.gate import forced_gates
from recsys_spark.publish import head
from recsys_spark.run_ledger import latest_runs, record_step, steps_of
from recsys_spark.runner import run_day
from recsys_spark.steps.ingest import ingest
from recsys_spark.tables.catalog import AUDITS
from recsys_spark.tables.ledger import read_rows
from tests.small_shop import FIRST_DAY, land_days, make_shop

DAY = FIRST_DAY + timedelta(days=2)


@pytest.fixture
def shop(spark: SparkSession, tmp_path: Path) -> Config:
    config = make_shop(tmp_path)
    land_days(config, FIRST_DAY, 2)
    ingest(spark, config)
    return config


def _lose_a_file(config: Config, table: str) -> None:
    """Deletes a data file with the checksum that Hadoop keeps beside it: an object store has none."""
    run_id = latest_runs(config.root)[-1]["run_id"]
    lost = next((config.root / "tables" / table / f"run_id={run_id}").glob("*.parquet"))
    lost.unlink()
    (lost.parent / f".{lost.name}.crc").unlink(missing_ok=True)


def _write_down_another_content(config: Config, table: str) -> None:
    """As if other rows had been written than are in storage now, and as many."""
    run_id = latest_runs(config.root)[-1]["run_id"]
    row = next(row for row in steps_of(config.root, run_id).values() if table in row["n_rows"])
    record_step(config.root, row | {"content_hashes": row["content_hashes"] | {table: "another"}})


def test_audit_refuses_rows_that_were_lost_or_altered(
    spark: SparkSession, shop: Config, failpoint: Callable[[str], None]
) -> None:
    """Fault row 42."""
    failpoint("run.after_changes")
    with pytest.raises(FailpointReached):
        run_day(spark, shop, DAY)
    failpoint("none")
    _lose_a_file(shop, "candidates")
    _write_down_another_content(shop, "fallback_candidates")
    with pytest.raises(GateRefused, match=r"gate stored_candidates: expected \d+ rows") as caught:
        run_day(spark, shop, DAY)
    same_count = r"gate stored_fallback_candidates: expected (\d+) rows, got \1 \(content .*, written another\)"
    assert re.search(same_count, str(caught.value))
    assert "nothing was published before" in str(caught.value)
    assert head(shop.root) is None
    assert latest_runs(shop.root)[-1]["state"] == "refused"
    assert {row["outcome"] for row in read_rows(shop.root, AUDITS) if row["gate"] == "stored_candidates"} == {"failed"}


def test_a_run_whose_rows_a_later_step_misses_is_refused_and_the_next_one_is_whole(
    spark: SparkSession, shop: Config, failpoint: Callable[[str], None]
) -> None:
    failpoint("run.after_index")
    with pytest.raises(FailpointReached):
        run_day(spark, shop, DAY)
    failpoint("none")
    _lose_a_file(shop, "item_index")
    with pytest.raises(DamagedError, match="item_index run_id="):
        run_day(spark, shop, DAY)
    assert latest_runs(shop.root)[-1]["state"] == "refused"
    assert run_day(spark, shop, DAY).outcome == "published"


def test_audit_names_gate_figure_and_bound_and_a_forced_name_of_no_gate(spark: SparkSession, shop: Config) -> None:
    strict = make_shop(shop.root.parent, "audit.max_top_item_share=0.01")
    misspelt = forced_gates(["top_item_shares"], "they bought one thing")
    with pytest.raises(GateRefused, match=r"gate top_item_share: expected <= 0.01, got [0-9.]+ \(item ") as caught:
        run_day(spark, strict, DAY, forced=misspelt)
    assert "--force: expected gates of this run, got top_item_shares" in str(caught.value)
    assert head(shop.root) is None
