"""What showings led to, by hand: sums, weights by logged propensities, variants, intervals that pair with others."""

from datetime import datetime

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.evaluation.exposure_value import exposure_figures
from recsys_spark.evaluation.kernels.figures import ALL, Figure
from recsys_spark.numeric.bootstrap import RESAMPLES, draw, mean_interval, user_keys
from tests.engagement import before
from tests.local_frame import local_frame

SCHEMA = (
    "user_id string, item_id string, shown_at timestamp, propensity double, last_engaged_at timestamp, value double"
)
NAMES = ("main", "bold")
SHOWN, CLICKED, EARLIER = before(hours=5), before(hours=4), before(hours=6)


def pair(user: str, item: str, clicked: datetime | None = None, propensity: float | None = None, value: float = 0.0):
    return (user, item, SHOWN, propensity, clicked, value)


@pytest.fixture
def variants(spark: SparkSession) -> DataFrame:
    return local_frame(spark, [("u0", "main"), ("u1", "bold"), ("u2", "bold")], "user_id string, variant string")


def figures(spark: SparkSession, variants: DataFrame, *rows: tuple) -> dict[tuple[str, str], float]:
    found = exposure_figures(local_frame(spark, list(rows), SCHEMA).repartition(3), variants, NAMES, "published", 7)
    return {(figure.group, figure.metric): float(one.means[0]) for figure, one in found.items()}


def test_figures_are_the_ratios_of_sums(spark: SparkSession, variants: DataFrame) -> None:
    found = figures(
        spark,
        variants,
        pair("u0", "a", CLICKED, 0.5, 3.0),
        pair("u0", "b", None, 0.1),
        pair("u0", "c", EARLIER, 0.1, 9.0),  # bought before it was shown
        pair("u1", "a", CLICKED, 0.25, 1.0),
        pair("u2", "a", None),
        pair("u9", "a", None),  # without a list
        ("u9", "d", None, None, CLICKED, 50.0),  # never shown
    )
    assert found[ALL, "ctr"] == pytest.approx(2 / 6)
    assert found[ALL, "conversion"] == pytest.approx(2 / 4)
    assert found[ALL, "value"] == pytest.approx((3 + 1) / 4)
    assert found[ALL, "ctr_ips"] == pytest.approx((2 + 4) / (2 + 10 + 10 + 4))
    assert found[ALL, "value_ips"] == pytest.approx((2 * 3 + 4 * 1) / (22 / 3 + 4))
    assert found["users/variant=main", "ctr"] == pytest.approx(1 / 3)
    assert found["users/variant=bold", "conversion"] == pytest.approx(1 / 2)


def test_without_experiments_there_is_no_figure_of_one(spark: SparkSession, variants: DataFrame) -> None:
    rows = local_frame(spark, [pair("u0", "a", CLICKED)], SCHEMA)
    found = exposure_figures(rows, variants, (), "published", 7)
    assert {figure.group for figure in found} == {ALL}


def test_value_of_few_weighed_showings_is_held_against_as_few(spark: SparkSession, variants: DataFrame) -> None:
    """One of ten showings has a propensity, and a tenth of the value."""
    rows = [pair("u0", f"i{at}", CLICKED, 0.5 if at == 0 else None, 1.0) for at in range(10)]
    found = figures(spark, variants, *rows)
    assert (found[ALL, "value"], found[ALL, "value_ips"]) == (pytest.approx(10.0), pytest.approx(10.0))


def test_value_with_equal_propensities_is_the_plain_one(spark: SparkSession, variants: DataFrame) -> None:
    rows = [pair("u0", "a", CLICKED, 0.2, 3.0), pair("u0", "b", None, 0.2), pair("u1", "a", None, 0.2)]
    found = figures(spark, variants, *rows)
    assert found[ALL, "ctr_ips"] == pytest.approx(found[ALL, "ctr"])
    assert found[ALL, "value_ips"] == pytest.approx(found[ALL, "value"])


def test_weights_undo_a_policy_that_shows_what_is_not_liked(spark: SparkSession, variants: DataFrame) -> None:
    """`bad` is shown to nine of ten and never clicked, `good` to one and always: shown alike, half is clicked."""
    rows = [pair(f"u{at}", "bad", None, 0.9) for at in range(90)]
    rows += [pair(f"v{at}", "good", CLICKED, 0.1, 1.0) for at in range(10)]
    found = figures(spark, variants, *rows)
    assert found[ALL, "ctr"] == pytest.approx(0.1)
    assert found[ALL, "ctr_ips"] == pytest.approx(0.5)


def test_intervals_have_the_draws_of_every_other_figure(spark: SparkSession, variants: DataFrame) -> None:
    rows = local_frame(spark, [pair(f"u{at}", "a", CLICKED if at % 3 else None) for at in range(40)], SCHEMA)
    found = exposure_figures(rows.repartition(4), variants, NAMES, "published", 7)[
        Figure("published", ALL, "conversion", 0)
    ]
    draws = draw(user_keys([f"u{at}" for at in range(40)]), 7, RESAMPLES)
    clicked = np.array([float(at % 3 > 0) for at in range(40)])
    np.testing.assert_allclose(found.n, draws.sum(axis=0))
    np.testing.assert_allclose(found.total, clicked @ draws)
    interval = mean_interval([found])
    assert interval.low < interval.estimate < interval.high


def test_nothing_shown_gives_nothing(spark: SparkSession, variants: DataFrame) -> None:
    rows = local_frame(spark, [("u9", "d", None, None, CLICKED, 50.0)], SCHEMA)
    assert exposure_figures(rows, variants, NAMES, "published", 7) == {}
