"""Lists leave a task as the table of candidates wants them."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from recsys_spark.ann.exact_search import USER_LISTS, list_records
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.warehouse.spark_check import check_schema
from recsys_spark.warehouse.tables import TABLES
from tests.item_cf_oracle import ranked_of

LISTS = ranked_of([[(7, 2.5), (3, 2.5), (9, -1.0)], [], [(3, 0.25)], []])


def test_user_lists_has_a_record_for_every_list_with_items() -> None:
    batch = list_records("als", np.array([4, 5, 90, 91]), LISTS, np.arange(4), np.arange(4.0), np.arange(4.0) / 2)
    assert batch.to_pylist() == [
        {
            "source": "als",
            "user_idx": user,
            "segment": None,
            "items": [
                {"item_idx": item, "rank": rank, "score": score} for rank, (item, score) in enumerate(items, start=1)
            ],
            "n_own": int(mean),
            "mean": mean,
            "deviation": mean / 2,
        }
        for user, items, mean in ((4, [(7, 2.5), (3, 2.5), (9, -1.0)], 0.0), (90, [(3, 0.25)], 2.0))
    ]


def test_user_lists_of_no_users_has_no_record() -> None:
    none = Ranked(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    assert list_records("als", np.empty(0, np.int64), none).num_rows == 0


def _lists(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return (list_records("als", np.arange(4), LISTS) for batch in batches)


def test_user_lists_are_rows_of_the_table(spark: SparkSession) -> None:
    frame = spark.range(0, 1, 1, 1).mapInArrow(_lists, USER_LISTS)
    check_schema(frame, TABLES["source_candidates"], without=("run_id",))
    assert sorted(row["user_idx"] for row in frame.collect()) == [0, 2]
