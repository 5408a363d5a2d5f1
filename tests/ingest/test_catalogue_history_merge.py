"""Every id of a batch gets its verdicts, wherever its rows lie."""

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_spark.ingest.catalogue_history import judge_rows

DAY = 86_400_000_000


def test_judge_rows_judges_every_id_by_its_own_history(spark: SparkSession) -> None:
    # Item n holds "a" from day 1; day 2 says "b" for odd items; day 3 had confirmed "a" for all.
    items = spark.range(500).select(F.concat(F.lit("i"), "id").alias("item_id"), "id")
    time = F.timestamp_micros(F.lit(DAY)).alias("valid_from")
    stored = items.select("item_id", time, F.lit("a").alias("content_sha256"))
    arriving = items.repartition(3).select(
        "item_id",
        F.timestamp_micros(F.lit(2 * DAY)).alias("valid_from"),
        F.when(F.col("id") % 2 == 1, "b").otherwise("a").alias("content_sha256"),
        F.lit(0).alias("file_index"),
        (F.col("id") + 1).alias("line"),
        F.lit(True).alias("dated_by_file"),
    )
    verdicts = judge_rows(arriving, stored, "item_id", [DAY, 3 * DAY]).collect()
    found: dict[str, set[tuple[str, int, int, int]]] = {}
    for row in verdicts:
        found.setdefault(row.row_id, set()).add((row.verdict, row.time_us, row.line, row.source_us))
    assert found == {
        f"i{number}": {("new", 2 * DAY, number + 1, -1), ("restored", 3 * DAY, 0, DAY)}
        if number % 2
        else {("duplicate", 2 * DAY, number + 1, -1)}
        for number in range(500)
    }


def test_judge_rows_says_nothing_of_ids_that_did_not_arrive(spark: SparkSession) -> None:
    rows = "item_id string, valid_from timestamp, content_sha256 string"
    stored = spark.sql("SELECT 'old' AS item_id, timestamp '2025-01-01' AS valid_from, 'a' AS content_sha256")
    nothing = spark.createDataFrame([], f"{rows}, file_index int, line long, dated_by_file boolean")
    assert judge_rows(nothing, stored, "item_id", []).collect() == []
