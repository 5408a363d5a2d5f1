"""A backtest of a small shop: judged as a reader of the bundle would be, repeated without running anything again."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from recsys_spark.backtest import Plan, backtest, read_figures, write_figures
from recsys_spark.config import Config
from recsys_spark.errors import ArgumentError
from recsys_spark.gate import Forced
from recsys_spark.kernels.evaluation import ALL, NEW_USERS, Figure
from recsys_spark.kernels.holdout import hold_out, judge_lists, judge_order, popular_items
from recsys_spark.kernels.intervals import Tally
from recsys_spark.reader import open_current
from recsys_spark.steps.catalog import ingest_catalogue
from recsys_spark.steps.ingest import ingest
from recsys_spark.tables.catalog import EVENTS
from recsys_spark.tables.delta import read_table
from tests.small_shop import FIRST_DAY, land_catalogue, land_days, make_shop

DAY = FIRST_DAY + timedelta(days=7)
K = 10


def unobserved(step: str, phase: str, figures: dict[str, float]) -> None:
    """Nobody watches."""


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    one = {Figure("als", ALL, "recall", 20): Tally(np.array([2.0, 1.0]), np.array([0.5, 0.25]))}
    folds = {FIRST_DAY: one, DAY: one}
    write_figures(tmp_path, folds)
    found = read_figures(tmp_path)
    assert found.keys() == folds.keys()
    for day in folds:
        assert found[day].keys() == one.keys()
        for figure, tally in one.items():
            np.testing.assert_array_equal(found[day][figure].n, tally.n)
            np.testing.assert_array_equal(found[day][figure].total, tally.total)


def test_a_backtest_needs_dates_and_logs(
    spark: SparkSession, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match="at least one --date"):
        backtest(spark, make_config(), tmp_path / "b", Plan(()), unobserved, Forced())
    with pytest.raises(ArgumentError, match=r"got 0 batches; ingest first"):
        backtest(spark, make_config(), tmp_path / "b", Plan((DAY,)), unobserved, Forced())


@pytest.mark.slow
def test_a_date_is_judged_as_its_reader_would_be(spark: SparkSession, tmp_path: Path) -> None:
    config = make_shop(tmp_path)
    land_catalogue(config, FIRST_DAY)
    land_days(config, FIRST_DAY, 10)
    ingest_catalogue(spark, config)
    ingest(spark, config)
    folder = tmp_path / "backtest"
    figures = backtest(spark, config, folder, Plan((DAY,), window_days=3), unobserved, Forced())[DAY]

    events = read_table(spark, config.root, EVENTS).where("user_id IS NOT NULL")
    purchases = pa.table({name: events.toArrow()[name] for name in ("user_id", "item_id", "event_time")})
    held = hold_out(purchases, DAY)
    bundle = open_current(folder)
    assert bundle.data_date == DAY
    lists = {user: [one.item_id for one in bundle.candidates(user).items] for user in held.users}
    expected = judge_lists(lists, held, K)
    found = {name: figures[Figure(name, ALL, "recall", K)] for name in ("published", "most engaged in 28 days")}
    assert found["published"].n[0] == len(held.users)
    assert found["published"].means[0] == pytest.approx(expected.recall)
    assert figures[Figure("published", ALL, "ndcg", K)].means[0] == pytest.approx(expected.ndcg)
    popular = judge_order(popular_items(purchases, DAY, 28), held, K)
    assert found["most engaged in 28 days"].means[0] == pytest.approx(popular.recall)
    names = {figure.list_name for figure in figures}
    assert {"als", "item_cf", "popular/trending", "blend/rrf"} <= names
    assert figures[Figure("published", NEW_USERS, "recall", K)].n[0] >= 0

    told = []
    again = backtest(spark, config, folder, Plan((DAY,), window_days=3), lambda *one: told.append(one[:2]), Forced())
    assert told == [(f"judge {DAY}", "start"), (f"judge {DAY}", "done")], "the run is there, and is not run again"
    for figure, one in again[DAY].items():
        np.testing.assert_allclose(one.total, figures[figure].total, atol=1e-9)
    assert read_figures(folder)[DAY].keys() == figures.keys()
    land_days(config, FIRST_DAY + timedelta(days=10), 1)
    ingest(spark, config)
    with pytest.raises(ArgumentError, match=r"expected an empty folder or the logs of"):
        backtest(spark, config, folder, Plan((DAY,), window_days=3), unobserved, Forced())
