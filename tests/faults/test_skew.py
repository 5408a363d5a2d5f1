"""Rows 32 and 33: a bot, and an item in nearly every basket, at most double a day's work, and no task stands out.

Work is counted, in bytes that tasks send each other and in products, and not timed: what a machine does besides is no
part of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.item_cf.kernels.similarity import Similarity
from recsys_spark.item_cf.neighbors import Limits, _fit_sums, _row_blocks, fit_neighbors
from recsys_spark.pipeline.runner import run_day
from recsys_spark.serving.bundle import open_current
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.spark_check import spark_type
from recsys_spark.warehouse.spark_tables import append_once
from recsys_spark.warehouse.tables import EVENTS, RUN_STEPS
from tests.conftest import TEST_SETTINGS
from tests.small_shop import make_shop

DAY = date(2025, 3, 1)
N_USERS, N_ITEMS, N_EVENTS, N_DAYS = 1_000, 300, 10_000, 28
N_BOT_EVENTS = 33_000
PARTITIONS = 8  # of a shuffle: among two tasks none can stand out

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Work:
    """shuffled_bytes: what tasks wrote for others.  task_bytes: the most of it that one task read."""

    shuffled_bytes: int
    task_bytes: int


@pytest.fixture(autouse=True)
def partitions(spark: SparkSession) -> Iterator[None]:
    spark.conf.set("spark.sql.shuffle.partitions", PARTITIONS)
    yield
    spark.conf.set("spark.sql.shuffle.partitions", TEST_SETTINGS["spark.sql.shuffle.partitions"])


class Watch:
    """What a session does from here on."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._store = spark._jsc.sc().statusStore()  # type: ignore[attr-defined]
        self._before = {stage.stageId() for stage in self._stages()}

    def work(self) -> Work:
        self._spark._jsc.sc().listenerBus().waitUntilEmpty()  # type: ignore[attr-defined]
        stages = [stage for stage in self._stages() if stage.stageId() not in self._before]
        return Work(sum(stage.shuffleWriteBytes() for stage in stages), max(map(self._task_bytes, stages)))

    def _stages(self) -> list:
        gateway = self._spark.sparkContext._gateway
        no_quantiles = gateway.new_array(gateway.jvm.double, 0)
        stages = self._store.stageList(None, False, False, no_quantiles, None)
        return [stages.apply(number) for number in range(stages.length())]

    def _task_bytes(self, stage) -> int:
        if not stage.shuffleReadBytes():
            return 0
        tasks = self._store.taskList(stage.stageId(), stage.attemptId(), 10_000)
        read = [tasks.apply(number).taskMetrics().get().shuffleReadMetrics() for number in range(tasks.length())]
        return max(one.localBytesRead() + one.remoteBytesRead() for one in read)


def _events(rng: np.random.Generator, users: np.ndarray, items: np.ndarray) -> list[tuple]:
    first = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) - timedelta(days=N_DAYS)
    seconds = rng.integers(0, N_DAYS * 86_400, len(users))
    return [
        (f"u{user:05d}", f"i{item:04d}", first + timedelta(seconds=int(second)))
        for user, item, second in zip(users.tolist(), items.tolist(), seconds, strict=True)
    ]


def _clean(rng: np.random.Generator) -> list[tuple]:
    return _events(rng, rng.integers(0, N_USERS, N_EVENTS), (N_ITEMS * rng.random(N_EVENTS) ** 3).astype(int))


def _frame(spark: SparkSession, rows: list[tuple]) -> DataFrame:
    frame = spark.createDataFrame(rows, "user_id string, item_id string, event_time timestamp")
    fields = {column.name: F.lit(None) for column in EVENTS.columns if column.nullable and column.name != "user_id"}
    keyed = frame.withColumn("event_key", F.expr("uuid()")).withColumns(fields)
    constants = {"event_type": F.lit("purchase"), "batch_seq": F.lit(1), "file_sha256": F.lit("f"), "line": F.lit(1)}
    typed = keyed.withColumns(constants).withColumn("ds", F.to_date("event_time"))
    return typed.select(*[F.col(column.name).cast(spark_type(column.type)) for column in EVENTS.columns]).repartition(
        "ds"
    )


def _run(spark: SparkSession, folder: Path, rows: list[tuple]) -> tuple[Work, dict[str, dict[str, float]]]:
    """The work of a day of these events, and the figures of its steps."""
    config = make_shop(folder, "candidates.k=50", "segments.attribute=")
    append_once(_frame(spark, rows), config.root, EVENTS, 1)
    watch = Watch(spark)
    assert run_day(spark, config, DAY).outcome == "published"
    work = watch.work()
    assert len(open_current(config.root).candidates("u00007").items) == 50
    return work, {row["step"]: row["figures"] for row in read_rows(config.root, RUN_STEPS)}


def test_a_bot_and_an_item_in_nearly_every_basket_cost_at_most_twice_the_clean_day(
    spark: SparkSession, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    bot = _events(rng, np.full(N_BOT_EVENTS, 99_999), rng.integers(0, N_ITEMS, N_BOT_EVENTS))
    everybody = np.flatnonzero(rng.random(N_USERS) < 0.9)
    of_all = _events(rng, everybody, np.full(len(everybody), 7))
    clean, clean_figures = _run(spark, tmp_path / "clean", _clean(np.random.default_rng(1)))
    skewed, figures = _run(spark, tmp_path / "skewed", _clean(np.random.default_rng(1)) + bot + of_all)
    assert figures["interactions"]["n_capped_user_days"] == N_DAYS
    assert clean_figures["interactions"]["n_capped_user_days"] == 0
    assert skewed.shuffled_bytes <= 2 * clean.shuffled_bytes
    assert skewed.task_bytes <= 2 * clean.task_bytes


# Item-item CF alone.
CF_USERS, CF_ITEMS, CF_DRAWS, CF_CAP = 4_000, 1_000, 200_000, 60
BLOCK_BYTES = 1 << 18  # some ten blocks


def _pairs(extra_users: np.ndarray, extra_items: np.ndarray) -> np.ndarray:
    """Distinct (user, item), sorted: long-tailed draws, and what a fault adds."""
    rng = np.random.default_rng(4)
    users = np.append(rng.integers(0, CF_USERS, CF_DRAWS), extra_users)
    items = np.append((CF_ITEMS * rng.random(CF_DRAWS) ** 2).astype(np.int64), extra_items)
    return np.unique(np.column_stack([users, items]), axis=0)


def _stored(spark: SparkSession, folder: Path, pairs: np.ndarray) -> DataFrame:
    times = np.arange(len(pairs)) * 1_000_000
    columns = {"row_idx": pairs[:, 0].astype(np.int32), "col_idx": pairs[:, 1].astype(np.int32)}
    columns |= {"weight": np.ones(len(pairs), np.float32), "last_time": pa.array(times, pa.timestamp("us", tz="UTC"))}
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "pairs.parquet")
    return spark.read.parquet(str(folder / "pairs.parquet"))


def _fit(spark: SparkSession, pairs: DataFrame) -> Work:
    watch = Watch(spark)
    lists = fit_neighbors(pairs, Similarity("jaccard", 1.0, 0.0, 0.0, 10.0, 2, 100), Limits(CF_CAP, BLOCK_BYTES))
    assert lists.where(F.size("neighbors") > 0).count() > 0.9 * CF_ITEMS
    spark.catalog.clearCache()
    return watch.work()


def _n_products(pairs: np.ndarray) -> int:
    """Products that row sums are made of, with rows cut as item_cf cuts them."""
    return int((np.minimum(np.bincount(pairs[:, 0]), CF_CAP).astype(np.int64) ** 2).sum())


def test_item_cf_is_bounded_by_users_and_their_cap(spark: SparkSession, tmp_path: Path) -> None:
    everything = np.arange(CF_ITEMS)
    most = np.flatnonzero(np.random.default_rng(5).random(CF_USERS) < 0.9)
    clean = _pairs(np.empty(0, np.int64), np.empty(0, np.int64))
    of_clean = _fit(spark, _stored(spark, tmp_path / "clean", clean))
    for fault, added in {
        "a user with every item": (np.full(CF_ITEMS, CF_USERS), everything),
        "an item in 90 % of baskets": (most, np.full(len(most), CF_ITEMS - 1)),
    }.items():
        skewed = _pairs(*added)
        frame = _stored(spark, tmp_path / fault.replace(" %", ""), skewed)
        work = _fit(spark, frame)
        assert work.shuffled_bytes <= 2 * of_clean.shuffled_bytes, fault
        assert work.task_bytes <= 2 * of_clean.task_bytes, fault
        n_products = _fit_sums(_row_blocks(frame, CF_USERS + 1, 3, CF_CAP), CF_ITEMS).products.sum()
        assert n_products == _n_products(skewed) <= 2 * _n_products(clean), fault
        assert n_products <= (CF_USERS + 1) * CF_CAP**2
