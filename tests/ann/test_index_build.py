"""Shards through Spark: every item in one of them, the same bytes from any partitions, and no torch in a worker."""

from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.ann import index_build
from recsys_spark.ann.index_build import Part, fill_shards, fit_parts, indexed_items, train_parts
from recsys_spark.ann.kernels.index_choice import augmented_length
from recsys_spark.ann.shard_files import open_shard
from recsys_spark.config.load import load_config
from recsys_spark.config.models import Ann
from recsys_spark.errors import ConfigError, KernelError
from tests.clustered import clustered

N, DIM = 400, 8
VECTORS = clustered(N, DIM, seed=1)
SEED = 5


def settings_of(**changes: Any) -> Ann:
    """The defaults with a few small changes."""
    return load_config().ann.model_copy(update={"factory": "IVF8,PQ4x4", "items_per_shard": 150} | changes)


def items_of(spark: SparkSession, vectors: np.ndarray = VECTORS, n_partitions: int = 3) -> DataFrame:
    """Rows as `indexed_items` gives them, in partitions of no order; every second item is of part B."""
    rows = [(f"item-{idx}", idx, vector.tolist(), "AB"[idx % 2]) for idx, vector in enumerate(vectors)]
    frame = spark.createDataFrame(rows[::-1], "item_id string, item_idx int, vector array<float>, part string")
    return frame.repartition(n_partitions)


def whole(items: DataFrame) -> DataFrame:
    """All items in one part."""
    return items.withColumn("part", F.lit(None).cast("string"))


def build(items: DataFrame, root: Path, longest: float | None = None, **changes: Any) -> list[dict[str, Any]]:
    """The manifest of all that `index_build` does."""
    d = DIM if longest is None else augmented_length(DIM)
    parts = fit_parts(items, d, settings_of(**changes))
    return fill_shards(items, parts, train_parts(items, parts, longest, SEED, 1), longest, root)


def hashes(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["sha256"], row["vectors_sha256"]) for row in rows]


@pytest.fixture(scope="module")
def built(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("warehouse")
    return root, build(whole(items_of(spark)), root)


def test_fill_shards_puts_every_item_into_one_shard_by_its_id(built: tuple[Path, list[dict[str, Any]]]) -> None:
    root, rows = built
    assert [row["shard"] for row in rows] == [0, 1, 2]  # 400 items, 150 of them in a shard
    shards = [open_shard(root, row | {"factory": "", "part": None}) for row in rows]
    assert sorted(np.concatenate([shard.ids for shard in shards]).tolist()) == list(range(N))
    assert sum(row["ntotal"] for row in rows) == N
    assert min(row["ntotal"] for row in rows) > N // 3 - 50  # spread evenly by the hash
    for shard in shards:
        np.testing.assert_array_equal(shard.vectors, VECTORS[shard.ids])
        assert {name: shard.row[name] for name in ("d", "nlist", "m", "nbits")} == {
            "d": DIM, "nlist": 8, "m": 4, "nbits": 4,
        }  # fmt: skip


def test_fill_shards_gives_the_same_bytes_from_other_partitions_and_a_second_time(
    spark: SparkSession, built: tuple[Path, list[dict[str, Any]]]
) -> None:
    root, rows = built
    n_files = len(list((root / "blobs").iterdir()))
    assert hashes(build(whole(items_of(spark, n_partitions=5)), root)) == hashes(rows)
    assert len(list((root / "blobs").iterdir())) == n_files  # the files have their content's names


def test_fill_shards_keeps_every_vector_however_few_come_at_once(
    spark: SparkSession, tmp_path: Path, built: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_build, "_ADD_BYTES", 64 * 4 * DIM)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 50)
    try:
        rows = build(whole(items_of(spark, n_partitions=1)), tmp_path)
    finally:
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 20000)
    assert hashes(rows) == hashes(built[1])  # from another partition too
    for row, other in zip(rows, built[1], strict=True):
        np.testing.assert_array_equal(open_shard(tmp_path, row).vectors, open_shard(built[0], other).vectors)


def test_parts_have_an_index_of_their_own(spark: SparkSession, tmp_path: Path) -> None:
    items = items_of(spark)
    parts = fit_parts(items, DIM, settings_of())
    assert [(part.value, part.n, list(part.shards)) for part in parts] == [("A", 200, [0, 1]), ("B", 200, [2, 3])]
    rows = fill_shards(items, parts, train_parts(items, parts, None, SEED, 1), None, tmp_path)
    for row in rows:
        ids = open_shard(tmp_path, row).ids
        assert set(ids % 2) == {row["shard"] // 2}
    assert sum(row["ntotal"] for row in rows) == N


def test_items_of_other_lengths_are_indexed_with_a_further_direction(spark: SparkSession, tmp_path: Path) -> None:
    vectors = VECTORS * np.linspace(0.5, 3.0, N, dtype=np.float32)[:, None]
    rows = build(whole(items_of(spark, vectors)), tmp_path, longest=3.0, factory="IVF8,Flat")
    assert {row["d"] for row in rows} == {16}
    shard = open_shard(tmp_path, rows[0])
    np.testing.assert_array_equal(shard.vectors, vectors[shard.ids])  # those that products are made of stay as they are


def test_train_parts_depends_on_the_seed_and_not_on_partitions(spark: SparkSession) -> None:
    items = whole(items_of(spark))
    (part,) = fit_parts(items, DIM, settings_of())
    few = Part(None, N, 0, 1, part.choice.__class__(**vars(part.choice) | {"n_train": 100}))
    once = train_parts(items.repartition(1), [few], None, SEED, 1)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 25)  # more than are taken come in several batches
    try:
        assert train_parts(items.repartition(4), [few], None, SEED, 1) == once
    finally:
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 20000)
    assert once != train_parts(items, [few], None, SEED + 1, 1)


def test_fit_parts_of_no_item_are_none(spark: SparkSession) -> None:
    assert fit_parts(whole(items_of(spark)).limit(0), DIM, settings_of()) == []


def test_fit_parts_refuses_a_factory_that_does_not_fit(spark: SparkSession) -> None:
    with pytest.raises(KernelError, match=r"^\[ann\] part None of 400 items: "):
        fit_parts(whole(items_of(spark)), DIM, settings_of(factory="IVF1024,Flat"))


def test_fit_parts_refuses_an_attribute_that_no_item_has(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match=r"partition_by: expected .* got 'markt', which none has"):
        fit_parts(whole(items_of(spark)), DIM, settings_of(partition_by="markt"))


def test_fit_parts_refuses_too_many_parts(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_build, "MAX_PARTS", 1)
    with pytest.raises(ConfigError, match="partition_by: expected an attribute with at most 1 values"):
        fit_parts(items_of(spark), DIM, settings_of(partition_by="category"))


def test_indexed_items_are_those_that_may_be_shown_with_the_value_of_their_part(spark: SparkSession) -> None:
    expected = {"": {1: None, 4: None}, "category": {1: "c", 4: None}, "market": {1: "m", 4: None}}
    rows = [
        ("a", 1, [1.0], 1.0, True),
        ("b", 2, [1.0], 1.0, False),
        ("c", 3, [0.0], 0.0, True),
        ("d", 4, [1.0], 1.0, True),
    ]
    embeddings = spark.createDataFrame(
        rows, "item_id string, item_idx int, vector array<float>, norm float, shown boolean"
    )
    catalogue = spark.createDataFrame(
        [("a", "c", {"market": "m"}), ("d", " ", None)],
        "item_id string, category string, attributes map<string,string>",
    )
    frames = [indexed_items(embeddings, catalogue, one).withColumn("by", F.lit(one)) for one in expected]
    rows = reduce(DataFrame.unionByName, frames).collect()
    assert len(rows) == 6
    assert {by: {row["item_idx"]: row["part"] for row in rows if row["by"] == by} for by in expected} == expected


def test_workers_that_fill_have_no_torch(spark: SparkSession, built: object) -> None:
    """Workers are reused: those that filled are among these."""

    def loaded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import sys

        list(batches)
        yield pa.RecordBatch.from_pydict({"name": [one for one in ("torch", "faiss") if one in sys.modules]})

    found = {row["name"] for row in spark.range(0, 8, 1, 8).mapInArrow(loaded, "name string").collect()}
    assert found == {"faiss"}
