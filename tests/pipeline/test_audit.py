"""The audit reads storage back: what was lost after the write is found, and nothing is published."""

import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.errors import GateRefused
from recsys_spark.pipeline.gates.verdict import forced_gates
from recsys_spark.pipeline.publish import current_row
from recsys_spark.pipeline.runner import run_day
from recsys_spark.warehouse.ledger import read_rows, steps_of
from recsys_spark.warehouse.tables import AUDITS
from tests.ledgers import latest_runs, record_step
from tests.shop_day import DAY, ShopDay, copy_shop, lose_a_file


@pytest.fixture
def shop(shop_day: ShopDay, tmp_path: Path) -> Config:
    """A run whose steps are done but for the audit, in a shop where one item in a hundred lists may come first."""
    return copy_shop(shop_day.unaudited, tmp_path)


def _write_down_another_content(config: Config, table: str) -> None:
    """As if other rows had been written than are in storage now, and as many."""
    run_id = latest_runs(config.root)[-1]["run_id"]
    row = next(row for row in steps_of(config.root, run_id).values() if table in row["n_rows"])
    record_step(config.root, row | {"content_hashes": row["content_hashes"] | {table: "another"}})


def test_audit_refuses_rows_that_were_lost_or_altered(spark: SparkSession, shop: Config) -> None:
    """Fault row 42."""
    run_id = latest_runs(shop.root)[-1]["run_id"]
    lose_a_file(shop, "candidates")
    _write_down_another_content(shop, "fallback_candidates")
    with pytest.raises(GateRefused, match=r"gate stored_candidates: expected \d+ rows") as caught:
        run_day(spark, shop, DAY)
    same_count = r"gate stored_fallback_candidates: expected (\d+) rows, got \1 \(content .*, written another\)"
    assert re.search(same_count, str(caught.value))
    assert "nothing was published before" in str(caught.value)
    assert current_row(shop.root) is None
    newest = latest_runs(shop.root)[-1]
    assert (newest["run_id"], newest["state"]) == (run_id, "refused")
    assert {row["outcome"] for row in read_rows(shop.root, AUDITS) if row["gate"] == "stored_candidates"} == {"failed"}


def test_audit_names_gate_figure_and_bound_and_a_forced_name_of_no_gate(spark: SparkSession, shop: Config) -> None:
    misspelt = forced_gates(["top_item_shares"], "they bought one thing")
    with pytest.raises(GateRefused, match=r"gate top_item_share: expected <= 0.01, got [0-9.]+ \(item ") as caught:
        run_day(spark, shop, DAY, forced=misspelt)
    assert "--force: expected gates of this run, got top_item_shares" in str(caught.value)
    assert current_row(shop.root) is None
