"""What is new, how often it was shown and engaged with, against what was written down by hand."""

from datetime import datetime

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.blend import fresh_items
from recsys_spark.blend.fresh_items import fit_samples
from recsys_spark.config.lists import Explore
from recsys_spark.config.schema import Config
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.engagement import CUTOFF, TYPES_SET, Event, before, make_events, make_items

IDS = ("born", "made", "made long ago", "never seen", "old", "gone")
ALL = np.arange(len(IDS), dtype=np.int32)


def frame(spark: SparkSession, table: str, rows: list[tuple]) -> DataFrame:
    return spark.createDataFrame(rows, spark_schema(TABLES[table], without=("run_id",)))


@pytest.fixture(scope="module")
def inputs(spark: SparkSession) -> dict[str, DataFrame]:
    """Items 0 and 1 are new, 2 was created long ago and seen lately, 3 has nothing, 4 is old, 5 may not be shown."""
    events = [
        Event("u0", "born", "buy", before(days=3)),
        Event("u1", "made long ago", "buy", before(days=2)),
        Event("u1", "old", "buy", before(days=90)),
        Event("u2", "old", "buy", before(days=1)),
        Event(None, "gone", "buy", before(days=4)),
    ]
    created = {"made": {"created_at": before(days=8)}, "made long ago": {"created_at": before(days=80)}}

    def shown(user: int, item: int, at: datetime) -> tuple:
        return (user, item, at, None, None, None, None)

    exposures = [
        *(shown(user, 0, before(days=3, hours=1)) for user in range(6)),
        shown(0, 0, before(days=1)),  # the same user once more
        shown(0, 4, before(days=1)),
        shown(2, 4, before(hours=1)),  # after they bought it
    ]
    interactions = [
        (0, 0, 1.0, before(days=3), 1, None),
        (1, 0, 1.0, before(days=9), 1, None),  # before it was shown
        (2, 4, 1.0, before(days=1), 1, None),
        (3, 0, 0.0, before(days=1), 0, before(days=-9)),  # a dislike is no success
    ]
    tables = {
        "events": make_events(spark, events),
        "items": make_items(spark, created),
        "item_index": frame(spark, "item_index", list(enumerate(IDS))),
        "exposures": frame(spark, "exposures", exposures),
        "interactions": frame(spark, "interactions", interactions),
    }
    return {name: rows.persist() for name, rows in tables.items()}


def explore(**changes: object) -> Explore:
    settings = {"share": 0.1, "fresh_days": 28, "mode": "thompson", "prior_showings": 20.0, "quality_floor": 0.0}
    return Explore.model_validate(settings | changes)


def test_fresh_is_what_was_created_or_first_seen_within_the_days_and_may_be_shown(inputs: dict[str, DataFrame]) -> None:
    samples, n_fresh = fit_samples(inputs, ALL[:-1], explore(), CUTOFF, 1)
    assert (samples.items.tolist(), n_fresh) == ([0, 1], 2)
    samples, n_fresh = fit_samples(inputs, ALL, explore(fresh_days=5), CUTOFF, 1)
    assert (samples.items.tolist(), n_fresh) == ([0, 5], 2)


def test_what_is_known_of_an_item_is_who_was_shown_it_and_who_engaged_then(
    inputs: dict[str, DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    draw = fresh_items.draw_samples
    monkeypatch.setattr(fresh_items, "draw_samples", lambda *given: seen.append(given) or draw(*given))
    fit_samples(inputs, ALL, explore(), CUTOFF, 1)
    (fresh, drawing, _), *_ = seen
    assert fresh.items.tolist() == [0, 1, 5]
    assert fresh.trials.tolist() == [6, 0, 0]
    assert fresh.successes.tolist() == [1, 0, 0]
    rate = (1 + 0.5) / (8 + 1)  # over all eight pairs of user and item
    assert (drawing.prior.a, drawing.prior.b) == pytest.approx((20 * rate, 20 * (1 - rate)))


def test_an_item_that_is_surely_worse_than_the_floor_is_not_explored(
    spark: SparkSession, inputs: dict[str, DataFrame]
) -> None:
    shown = [(user, 0, before(days=1), None, None, None, None) for user in range(3000)]
    shown += [(user, 4, before(days=80), None, None, None, None) for user in range(3000)]
    bought = [(user, 4, 1.0, before(days=1), 1, None) for user in range(1500)]
    more = {"exposures": frame(spark, "exposures", shown), "interactions": frame(spark, "interactions", bought)}
    samples, n_fresh = fit_samples(inputs | more, ALL, explore(quality_floor=0.5), CUTOFF, 1)
    assert (samples.items.tolist(), n_fresh) == ([1, 5], 3)
    assert fit_samples(inputs | more, ALL, explore(), CUTOFF, 1)[0].items.tolist() == [0, 1, 5]


def test_the_newest_are_explored_where_there_are_too_many(
    inputs: dict[str, DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_items, "MAX_FRESH_ITEMS", 2)
    samples, n_fresh = fit_samples(inputs, ALL, explore(), CUTOFF, 1)
    assert (samples.items.tolist(), n_fresh) == ([0, 5], 3)


def test_a_log_without_impressions_or_new_items_is_served(
    spark: SparkSession, inputs: dict[str, DataFrame], make_config
) -> None:
    config: Config = make_config(TYPES_SET)
    assert config.candidates.explore.share == 0
    nothing = {"exposures": frame(spark, "exposures", [])}
    assert len(fit_samples(inputs | nothing, ALL, explore(quality_floor=0.5), CUTOFF, 1)[0].items) == 3
    samples, n_fresh = fit_samples(inputs, ALL[:0], explore(), CUTOFF, 1)
    assert (len(samples.items), n_fresh) == (0, 0)
