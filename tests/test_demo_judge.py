"""Every source is judged by the list that it has for a customer."""

from datetime import date
from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.demo_judge import lists_by_source
from recsys_spark.kernels.holdout import Holdout
from recsys_spark.reader import open_current
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.ledger import create_tables
from tests.warehouse import RUN_A, publish_bundle, stage_rows


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
