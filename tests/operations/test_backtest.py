"""A backtest of a small shop: judged as a reader of the bundle would be, repeated without running anything again."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from recsys_spark.cli.console import Console
from recsys_spark.cli.demo.holdout import hold_out, judge_lists, judge_order, popular_items
from recsys_spark.cli.views.backtest import show_backtest
from recsys_spark.config.schema import Config
from recsys_spark.errors import ArgumentError
from recsys_spark.evaluation.kernels.figures import ALL, Figure
from recsys_spark.ingest.accounting import BatchReport
from recsys_spark.ingest.batches import Batch, record_done
from recsys_spark.ingest.rules import take_in_rules
from recsys_spark.ingest.step_ingest import ingest, ingest_catalogue
from recsys_spark.numeric.bootstrap import Tally
from recsys_spark.operations.backtest import Plan, backtest, read_figures, write_figures
from recsys_spark.pipeline.gates.verdict import Forced
from recsys_spark.pipeline.hindsight_trend import trend
from recsys_spark.pipeline.run_ledger import RunLedger
from recsys_spark.serving.bundle import open_current
from recsys_spark.warehouse.spark_tables import read_table
from recsys_spark.warehouse.tables import EVENTS
from tests.one_event import append_event
from tests.small_shop import FIRST_DAY, land_catalogue, land_days, make_shop

DAY = FIRST_DAY + timedelta(days=7)
K = 10
BLOCKED = "item-01"


def unobserved(step: str, phase: str, figures: dict[str, float]) -> None:
    """Nobody watches."""


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    one = {Figure("als", ALL, "recall", 20): Tally(np.array([2.0, 1.0]), np.array([0.5, 0.25]))}
    folds = {FIRST_DAY: one, DAY: one}
    write_figures(tmp_path, folds, 28)
    found = read_figures(tmp_path, Plan((DAY, FIRST_DAY)))
    assert found.keys() == folds.keys()
    for day in folds:
        assert found[day].keys() == one.keys()
        for figure, tally in one.items():
            np.testing.assert_array_equal(found[day][figure].n, tally.n)
            np.testing.assert_array_equal(found[day][figure].total, tally.total)


@pytest.mark.parametrize("other", [Plan((DAY,)), Plan((FIRST_DAY,), window_days=7)])
def test_figures_of_other_dates_or_windows_are_no_pair(tmp_path: Path, other: Plan) -> None:
    write_figures(tmp_path, {FIRST_DAY: {Figure("als", ALL, "recall", 20): Tally(np.ones(2), np.ones(2))}}, 28)
    with pytest.raises(ArgumentError, match=r"got 2025-01-01 in windows of 28; compare backtests of the same"):
        read_figures(tmp_path, other)


def test_a_backtest_needs_dates_and_logs(
    spark: SparkSession, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match="at least one --date"):
        backtest(spark, make_config(), tmp_path / "b", Plan(()), unobserved, Forced())
    with pytest.raises(ArgumentError, match=r"expected logs to run past dates on, got none; ingest first"):
        backtest(spark, make_config(), tmp_path / "b", Plan((DAY,)), unobserved, Forced())


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Ten days of a small shop, taken in; every run judges the one before it, and one item is blocked."""
    folder = tmp_path_factory.mktemp("shop")
    config = make_shop(folder, "hindsight.window_days=28")
    land_catalogue(config, FIRST_DAY)
    land_days(config, FIRST_DAY, 10)
    ingest_catalogue(spark, config)
    ingest(spark, config)
    (folder / "rules.csv").write_text(f"rule_id,kind,item_id,reason\nrecall,block,{BLOCKED},sent back\n")
    take_in_rules(config.root, folder / "rules.csv", FIRST_DAY)
    return config


@pytest.mark.slow
def test_dates_are_judged_as_their_readers_would_be(spark: SparkSession, shop: Config, tmp_path: Path) -> None:
    plan = Plan((DAY,), (DAY - timedelta(days=1),), window_days=3)
    figures = backtest(spark, shop, tmp_path, plan, unobserved, Forced())[DAY]

    events = read_table(spark, shop.root, EVENTS).where("user_id IS NOT NULL").toArrow()
    purchases = pa.table({name: events[name] for name in ("user_id", "item_id", "event_time")})
    held = hold_out(purchases, DAY)
    bundle = open_current(tmp_path)
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

    # Through the runner: rules hold for everybody, and the bundle before was judged.
    assert not any(BLOCKED in items for items in lists.values())
    assert BLOCKED not in {one.item_id for one in bundle.candidates("nobody").items}
    quality = bundle.read_table("quality").to_pylist()
    assert {(row["judged_from"], row["judged_to"]) for row in quality} == {(DAY - timedelta(days=1), DAY)}
    assert [one.day for one in trend(RunLedger(tmp_path))] == [DAY]

    told: list[tuple[str, str]] = []
    again = backtest(spark, shop, tmp_path, plan, lambda *one: told.append(one[:2]), Forced())
    assert told == [(f"judge {DAY}", "start"), (f"judge {DAY}", "done")], "the runs are there, and are not run again"
    for figure, one in again[DAY].items():
        np.testing.assert_allclose(one.total, figures[figure].total, atol=1e-9)
    assert read_figures(tmp_path, plan)[DAY].keys() == figures.keys()
    show_backtest(again, Console(json_logs=False), read_figures(tmp_path, plan))

    other = shop.model_copy(update={"candidates": shop.candidates.model_copy(update={"rrf_k": 10})})
    with pytest.raises(ArgumentError, match="a backtest of the same settings, got another; choose another --folder"):
        backtest(spark, other, tmp_path, plan, unobserved, Forced())
    with pytest.raises(ArgumentError, match=f"expected dates after {DAY}, which was run there"):
        backtest(spark, shop, tmp_path, Plan((DAY - timedelta(days=2),), window_days=3), unobserved, Forced())


@pytest.fixture
def logs(root: Path, make_config: Callable[..., Config]) -> Config:
    """Ten days with an event each, and the batch that they came with."""
    for at in range(10):
        append_event(root, FIRST_DAY + timedelta(days=at))
    batch = Batch(1, "events", datetime(2025, 2, 1, tzinfo=UTC), False, None, (), "{}")
    record_done(root, batch, BatchReport(1, "events", False, ()))
    return make_config()


def test_a_window_that_the_log_does_not_fill_is_refused(spark: SparkSession, logs: Config, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"expected events until 2025-01-11.* judge earlier dates, or shorter wind"):
        backtest(spark, logs, tmp_path / "b", Plan((DAY,), window_days=4), unobserved, Forced())


def test_a_copy_of_the_logs_that_was_cut_is_refused(spark: SparkSession, logs: Config, tmp_path: Path) -> None:
    (tmp_path / "b" / "tables").mkdir(parents=True)
    with pytest.raises(ArgumentError, match="got a copy of logs that was cut; delete it"):
        backtest(spark, logs, tmp_path / "b", Plan((DAY,), window_days=3), unobserved, Forced())
