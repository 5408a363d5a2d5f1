"""Rows 32 and 33: a bot, and an item in nearly every basket, at most double the day, and no task stands out."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.reader import open_current
from recsys_spark.runner import run_day
from recsys_spark.tables.catalog import EVENTS, RUN_STEPS
from recsys_spark.tables.delta import append_once
from recsys_spark.tables.ledger import read_rows
from tests.small_shop import make_shop

DAY = date(2025, 3, 1)
N_USERS, N_ITEMS, N_EVENTS, N_DAYS = 5_000, 800, 60_000, 28
N_BOT_EVENTS = 200_000

# Shorter tasks differ by what the machine does besides.
SHORTEST_TASK_S = 1.0

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Outcome:
    """seconds: wall time of the run.  figures: of every step.  task_ratio: longest task / median of its stage."""

    seconds: float
    figures: dict[str, dict[str, float]]
    task_ratio: float


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
    return typed.select(*[F.col(name).cast(spark_types(name)) for name in EVENTS.names]).repartition("ds")


def spark_types(name: str) -> str:
    from recsys_spark.tables.spark import spark_type

    return spark_type(EVENTS.column(name).type).simpleString()


def _run(spark: SparkSession, folder: Path, rows: list[tuple]) -> Outcome:
    config = make_shop(folder, "candidates.k=50", "segments.attribute=")
    append_once(_frame(spark, rows), config.root, EVENTS, 1)
    before = {stage.stageId() for stage in _stages(spark)}
    started = time.perf_counter()
    assert run_day(spark, config, DAY).outcome == "published"
    seconds = time.perf_counter() - started
    ratios = [_task_ratio(spark, stage) for stage in _stages(spark) if stage.stageId() not in before]
    figures = {row["step"]: row["figures"] for row in read_rows(config.root, RUN_STEPS)}
    assert len(open_current(config.root).candidates("u00007").items) == 50
    return Outcome(seconds, figures, max(ratios))


def _stages(spark: SparkSession) -> Iterator:
    store = spark._jsc.sc().statusStore()  # type: ignore[attr-defined]
    stages = store.stageList(None, False, False, spark.sparkContext._gateway.new_array(spark._jvm.double, 0), None)
    return (stages.apply(number) for number in range(stages.length()))


def _task_ratio(spark: SparkSession, stage) -> float:
    store = spark._jsc.sc().statusStore()  # type: ignore[attr-defined]
    tasks = store.taskList(stage.stageId(), stage.attemptId(), 10_000)
    seconds = [
        tasks.apply(number).duration().get() / 1000
        for number in range(tasks.length())
        if tasks.apply(number).duration().isDefined()
    ]
    return max(seconds, default=0.0) / max(SHORTEST_TASK_S, median(seconds) if seconds else 0.0)


@pytest.fixture(scope="module")
def clean(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The second of two runs: the first compiles."""
    rows = _clean(np.random.default_rng(1))
    _run(spark, tmp_path_factory.mktemp("warm"), rows)
    return _run(spark, tmp_path_factory.mktemp("clean"), rows)


def test_bot_is_capped_and_costs_at_most_twice_the_clean_day(
    spark: SparkSession, tmp_path: Path, clean: Outcome
) -> None:
    rng = np.random.default_rng(2)
    bot = _events(rng, np.full(N_BOT_EVENTS, 99_999), rng.integers(0, N_ITEMS, N_BOT_EVENTS))
    outcome = _run(spark, tmp_path, _clean(np.random.default_rng(1)) + bot)
    assert outcome.figures["interactions"]["n_capped_user_days"] == N_DAYS
    assert clean.figures["interactions"]["n_capped_user_days"] == 0
    assert outcome.seconds <= 2 * clean.seconds
    assert outcome.task_ratio <= 5


def test_item_in_nearly_every_basket_costs_at_most_twice_the_clean_day(
    spark: SparkSession, tmp_path: Path, clean: Outcome
) -> None:
    rng = np.random.default_rng(3)
    everybody = np.flatnonzero(rng.random(N_USERS) < 0.9)
    rows = _clean(np.random.default_rng(1)) + _events(rng, everybody, np.full(len(everybody), 7))
    outcome = _run(spark, tmp_path, rows)
    assert outcome.seconds <= 2 * clean.seconds
    assert outcome.task_ratio <= 5
