"""Every source is judged by the list that it has for a customer."""

from datetime import date
from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.cli.demo.holdout import Holdout
from recsys_spark.cli.demo.judge import exact_lists, lists_by_source
from recsys_spark.features.declared import declared_tables
from recsys_spark.plan import BUNDLE_TABLES
from recsys_spark.serving.bundle import open_current
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.tables import TABLES
from tests.made_warehouse import MODEL, RUN_A, append_publish, make_rows, publish_bundle, stage_rows


def test_lists_by_source_takes_the_own_list_then_the_segments_then_everybodys(
    spark: SparkSession, tmp_path: Path
) -> None:
    publish_bundle(tmp_path, RUN_A, ["ann", "bob", "cleo"], {"ann": "FR", "bob": "FR", "cleo": None})
    create_tables(tmp_path, [TABLES["source_candidates"]])
    proposed = [
        ("als", 0, None, [3, 1]),  # ann
        ("als", 2, None, [2]),  # cleo
        ("popular", None, "FR", [0, 1]),
        ("popular", None, None, [4]),
    ]
    rows = [
        {
            "source": source,
            "user_idx": user_idx,
            "segment": segment,
            "items": [{"item_idx": idx, "rank": rank, "score": 1.0 / rank} for rank, idx in enumerate(listed, 1)],
        }
        for source, user_idx, segment, listed in proposed
    ]
    stage_rows(tmp_path, RUN_A, {"source_candidates": rows})
    users = ["ann", "bob", "cleo", "dora"]
    holdout = Holdout(date(2025, 1, 31), users, [frozenset({"i1"})] * 4, [frozenset()] * 4)
    items = sorted(f"i{number}" for number in range(1, 21))
    assert lists_by_source(spark, tmp_path, open_current(tmp_path), holdout) == {
        "als": {"ann": [items[3], items[1]], "bob": [], "cleo": [items[2]], "dora": []},
        "popular": {"ann": items[:2], "bob": items[:2], "cleo": [items[4]], "dora": [items[4]]},
    }


def test_exact_lists_are_in_the_order_of_all_products_of_what_may_be_shown(tmp_path: Path) -> None:
    create_tables(tmp_path, [declared_tables()[name] for name in (*BUNDLE_TABLES, "publishes")])
    rows = make_rows(RUN_A, ["ann", "bob"], {})
    vectors = {"i1": ([1.0, 0.0], True), "i2": ([0.6, 0.8], True), "i3": ([0.0, 1.0], False), "i4": ([1.0, 0.0], True)}
    rows["item_embeddings"] = [
        {"item_id": one, "item_idx": at, "vector": vector, "norm": 1.0, "model_version": MODEL, "shown": shown}
        for at, (one, (vector, shown)) in enumerate(vectors.items())
    ]
    rows["user_embeddings"] = [
        {"user_id": one, "user_idx": at, "vector": vector, "norm": 1.0, "model_version": MODEL}
        for at, (one, vector) in enumerate({"ann": [1.0, 0.0], "bob": [0.0, 1.0]}.items())
    ]
    stage_rows(tmp_path, RUN_A, rows)
    append_publish(tmp_path, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()})
    holdout = Holdout(date(2025, 1, 31), ["ann", "bob", "dora"], [frozenset({"i1"})] * 3, [frozenset()] * 3)
    assert exact_lists(open_current(tmp_path), holdout) == {"ann": ["i1", "i4", "i2"], "bob": ["i2", "i1", "i4"]}
