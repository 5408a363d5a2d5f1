"""Faults of a run inside one process: poison rows, empty days, first days, odd ids."""

from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.errors import GateRefused
from recsys_spark.pipeline.publish import current_row
from recsys_spark.pipeline.runner import run_day
from recsys_spark.serving.bundle import open_current
from recsys_spark.signals import step_index
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.tables import AUDITS
from tests.shop_day import DAY, ODD_IDS, ShopDay, copy_shop, engaged_items
from tests.small_shop import FIRST_DAY, land_events, make_shop
from tests.whole_day import run_whole_day


def test_poison_row_ends_the_run_soon_and_publishes_nothing(
    spark: SparkSession, shop_day: ShopDay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault row 6."""
    config = copy_shop(shop_day.unaudited, tmp_path, "candidates.k=9")  # other settings: a run from its first step
    deaths = tmp_path / "deaths"
    deaths.mkdir()

    def explode(batches):
        for batch in batches:
            if "user-01" in batch.column("user_id").to_pylist():
                (deaths / uuid4().hex).touch()
                raise ValueError("poison")
            yield batch

    sound = step_index.run

    def poisoned(inputs: dict[str, DataFrame], context: object) -> dict[str, DataFrame]:
        outputs = sound(inputs, context)
        users = outputs["user_index"]
        return outputs | {"user_index": users.mapInArrow(explode, users.schema)}

    monkeypatch.setattr(step_index, "run", poisoned)
    with pytest.raises(PySparkException, match="poison"):
        run_day(spark, config, DAY)
    assert len([*deaths.iterdir()]) == 2, "a task is tried as often as the session says, and its step once"
    assert current_row(config.root) is None


def test_an_empty_world_is_refused_by_name(spark: SparkSession, tmp_path: Path) -> None:
    """Fault row 34; how days without events are told apart is in tests/pipeline/gates/test_days.py."""
    config = make_shop(tmp_path)
    with pytest.raises(GateRefused, match="expected events before the date, got none"):
        run_whole_day(spark, config)
    land_events(config, FIRST_DAY, [])
    with pytest.raises(GateRefused, match="expected events before the date, got none"):
        run_whole_day(spark, config)
    assert current_row(config.root) is None


def test_first_day_skips_relative_gates_and_says_which(shop_day: ShopDay) -> None:
    """Fault row 35."""
    assert shop_day.report.outcome == "published"
    outcomes = {row["gate"]: row["outcome"] for row in read_rows(shop_day.config.root, AUDITS)}
    # Nor is there a model, for no source asks for one.
    gates = ("embeddings_unusable", "embeddings_of_other_size", "embedding_norms")
    of_towers = {f"{kind}_{gate}" for kind in ("user", "item") for gate in gates}
    skipped = {gate for gate, outcome in outcomes.items() if outcome == "skipped"}
    of_index = {"shards_damaged", "shards_of_other_model", "shards_items", "embeddings_of_other_model"}
    relative = {"volume", "overlap", "item_jump"}
    # The shop has no brands.
    assert skipped == relative | {"one_brand", "embedding_drift"} | of_towers | of_index
    assert outcomes["coverage"] == "passed"
    assert {gate for gate, outcome in outcomes.items() if outcome == "failed"} == {"top_item_share"}, "it is forced"


def test_ids_come_through_byte_for_byte(spark: SparkSession, shop_day: ShopDay) -> None:
    """Fault row 30: through ingest and every table, read back by Spark, by the reader and by pyarrow."""
    root, items = shop_day.config.root, engaged_items()
    bundle = open_current(root)
    table = bundle.read_table("user_index", columns=["user_id"])
    assert isinstance(table, pa.Table)
    users = table["user_id"].to_pylist()
    assert {one for one in users if not one.startswith("user-")} == set(ODD_IDS)
    frame = spark.read.format("delta").load(str(root / "tables" / "item_index"))
    assert {row.item_id for row in frame.collect() if not row.item_id.startswith("item-")} == set(ODD_IDS)
    for user in ODD_IDS:
        found = bundle.candidates(user)
        assert found.origin == "user"
        assert {one.item_id for one in found.items} == items - {user}
    assert set(bundle.item_features(ODD_IDS)) == set(ODD_IDS)
    folder = Path(root).parent
    assert not [path for path in folder.rglob("*") if path.name in ("up", "b") or "quoted" in path.name]
