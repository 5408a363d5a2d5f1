"""Faults of a run inside one process: poison rows, empty days, first days, tiny worlds."""

import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.errors import GateRefused
from recsys_spark.publish import head
from recsys_spark.reader import open_current
from recsys_spark.steps import index
from recsys_spark.tables.catalog import AUDITS
from recsys_spark.tables.ledger import read_rows
from tests.small_shop import FIRST_DAY, events_of, land_days, land_events, make_shop
from tests.whole_day import run_whole_day


@pytest.fixture
def run(spark: SparkSession) -> Callable[..., str]:
    return lambda config, day=None: run_whole_day(spark, config, day).outcome


def test_poison_row_ends_the_run_soon_and_publishes_nothing(
    spark: SparkSession, tmp_path: Path, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault row 6."""
    config = make_shop(tmp_path)
    land_days(config, FIRST_DAY, 2)

    def explode(batches):
        for batch in batches:
            if "user-01" in batch.column("user_id").to_pylist():
                raise ValueError("poison")
            yield batch

    sound = index.run

    def poisoned(inputs: dict[str, DataFrame], context: object) -> dict[str, DataFrame]:
        outputs = sound(inputs, context)
        users = outputs["user_index"]
        return outputs | {"user_index": users.mapInArrow(explode, users.schema)}

    monkeypatch.setattr(index, "run", poisoned)
    clock = time.perf_counter()
    with pytest.raises(PySparkException, match="poison"):
        run(config)
    assert time.perf_counter() - clock < 60
    assert head(config.root) is None


def test_an_empty_world_is_refused_by_name(run: Callable[..., str], tmp_path: Path) -> None:
    """Fault row 34; how days without events are told apart is in tests/test_day_gates.py."""
    config = make_shop(tmp_path)
    with pytest.raises(GateRefused, match="expected events before the date, got none"):
        run(config)
    land_events(config, FIRST_DAY, [])
    with pytest.raises(GateRefused, match="expected events before the date, got none"):
        run(config)
    assert head(config.root) is None


def test_first_day_skips_relative_gates_and_says_which(tmp_path: Path, run: Callable[..., str]) -> None:
    """Fault row 35."""
    config = make_shop(tmp_path)
    land_days(config, FIRST_DAY, 2)
    assert run(config) == "published"
    outcomes = {row["gate"]: row["outcome"] for row in read_rows(config.root, AUDITS)}
    # Nor is there a model, for no source asks for one.
    gates = ("embeddings_unusable", "embeddings_of_other_size", "embedding_norms")
    of_towers = {f"{kind}_{gate}" for kind in ("user", "item") for gate in gates}
    skipped = {gate for gate, outcome in outcomes.items() if outcome == "skipped"}
    of_index = {"shards_damaged", "shards_of_other_model", "shards_items", "embeddings_of_other_model"}
    relative = {"volume", "overlap", "item_jump"}
    # The shop has no brands.
    assert skipped == relative | {"one_brand", "embedding_drift"} | of_towers | of_index
    assert outcomes["coverage"] == "passed"


@pytest.mark.parametrize(("users", "items"), [(["u"], ["i"]), (["u", "v", "w"], ["i"])], ids=["1x1", "3x1"])
def test_tiny_world_is_published(tmp_path: Path, run: Callable[..., str], users: list[str], items: list[str]) -> None:
    """Fault row 36."""
    config = make_shop(tmp_path)
    base = events_of(FIRST_DAY, 1)[0]
    events = [base | {"user_id": user, "item_id": item, "event_id": user + item} for user in users for item in items]
    land_events(config, FIRST_DAY, events)
    assert run(config) == "published"
    bundle = open_current(config.root)
    # Everybody has seen everything: a list of their own that is empty, and the fallback for strangers.
    assert bundle.candidates(users[0]).items == ()
    assert {one.item_id for one in bundle.candidates("stranger").items} == set(items)


IDS = ["é", "e\u0301", "שלום", "👩‍👩‍👧", "nul\x00in", "line\nfeed", "tab\t", '"quoted"', "'single'"]
IDS += ["../up", "a/b", "a\\b", "%2e%2e", "null", "NaN", " leading", "trailing ", "0", "00", "-1", "1e3", "True"]
IDS += ["{}", "[]", "$x", "`x`", "a,b", ";"]
IDS += ["\u202eright", "x" * 256]


def test_ids_come_through_byte_for_byte(spark: SparkSession, tmp_path: Path, run: Callable[..., str]) -> None:
    """Fault row 30: through ingest and every table, read back by Spark, by the reader and by pyarrow."""
    config = make_shop(tmp_path, f"candidates.k={len(IDS)}")
    base = events_of(FIRST_DAY, 1)[0]
    events = [base | {"user_id": one, "item_id": one, "event_id": str(at)} for at, one in enumerate(IDS)]
    land_events(config, FIRST_DAY, events)
    assert run(config) == "published"
    bundle = open_current(config.root)
    table = bundle.read_table("user_index", columns=["user_id"])
    assert isinstance(table, pa.Table)
    assert set(table["user_id"].to_pylist()) == set(IDS)
    path = str(config.root / "tables" / "item_index")
    assert {row.item_id for row in spark.read.format("delta").load(path).collect()} == set(IDS)
    for user in IDS:
        found = bundle.candidates(user)
        assert found.origin == "user"
        assert {one.item_id for one in found.items} == set(IDS) - {user}
    assert set(bundle.item_features(IDS)) == set(IDS)
    assert not [path for path in tmp_path.rglob("*") if path.name in ("up", "b") or "quoted" in path.name]
