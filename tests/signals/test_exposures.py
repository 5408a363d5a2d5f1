"""What was shown and followed, by hand; chances and weights against the kernels on a biased log of known truth."""

from datetime import timedelta

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.signals.exposures import (
    N_POSITIONS,
    exposed_pairs,
    fit_examination,
    fit_inverse_weights,
    shown_chances,
)
from recsys_spark.signals.kernels.propensity import fit_positions, harvest, shown_propensity
from tests.biased_log import BiasedLog, biased_log, count_exposures, count_showings
from tests.engagement import CUTOFF, TYPES, Event, before, make_events, make_items
from tests.local_frame import local_frame

LATER = CUTOFF + timedelta(days=1)


def shown(spark: SparkSession, *rows: tuple) -> DataFrame:
    """Impressions: (user, item, hours before the cutoff, position, propensity, surface)."""
    made = None
    for user, item, hours, position, propensity, surface in rows:
        fields = {"position": position, "propensity": propensity, "surface": surface}
        one = make_events(spark, [Event(user, item, "show", before(hours=hours))], **fields)
        made = one if made is None else made.unionByName(one)
    assert made is not None
    return made


def test_a_pair_has_its_first_showing_and_all_that_was_done(spark: SparkSession) -> None:
    impressions = shown(
        spark,
        ("u", "x", 9, 2, 0.25, "home"),
        ("u", "x", 5, 1, 0.75, "mail"),
        ("u", "y", 5, 70, 0.0, None),
        ("u", "z", 5, 0, None, None),
        (None, "x", 5, 1, None, None),
    )
    acts = [
        Event("u", "x", "buy", before(hours=8)),
        Event("u", "x", "rate", before(hours=2), 1.0),
        Event("u", "x", "return", before(hours=1)),
        Event("u", "w", "buy", before(hours=3)),
        Event("u", "v", "hide", before(hours=3)),
        Event(None, "w", "buy", before(hours=3)),
    ]
    pairs = exposed_pairs(impressions.unionByName(make_events(spark, acts)), make_items(spark, {}), TYPES)
    rows = {row["item_id"]: row for row in pairs.collect()}
    assert set(rows) == {"w", "x", "y", "z"}
    x = rows["x"]
    assert (x["position"], x["propensity"], x["surface"]) == (2, 0.25, "home")
    assert x["shown_at"] == before(hours=9).replace(tzinfo=None)
    assert x["engaged_at"] == before(hours=8).replace(tzinfo=None)
    assert x["last_engaged_at"] == before(hours=2).replace(tzinfo=None)
    assert x["value"] == pytest.approx(1 + 0.5 * np.log(2))  # a return takes nothing back here
    assert (rows["y"]["position"], rows["y"]["propensity"]) == (N_POSITIONS, None)
    assert (rows["z"]["position"], rows["z"]["engaged_at"], rows["z"]["value"]) == (None, None, 0.0)
    assert (rows["w"]["shown_at"], rows["w"]["value"]) == (None, 1.0)


def test_values_relative_to_the_length_of_an_item_need_it(spark: SparkSession) -> None:
    events = make_events(spark, [Event("u", "film", "watch", before(hours=1), 45.0)])
    pairs = exposed_pairs(events, make_items(spark, {"film": {"length": 90.0}}), TYPES)
    assert [row["value"] for row in pairs.collect()] == [1.0]


@pytest.fixture(scope="module")
def made() -> BiasedLog:
    return biased_log(n_users=4000, n_items=20, n_positions=8, eta=1.0, seed=3)


@pytest.fixture(scope="module")
def pairs(spark: SparkSession, made: BiasedLog) -> DataFrame:
    """The biased log as `exposed_pairs` gives it."""
    at = before(hours=2)
    rows = [
        (f"u{user}", f"i{item:02d}", at, int(position), None, at if engaged else None)
        for user, item, position, engaged in zip(made.user_idx, made.item_idx, made.position, made.engaged, strict=True)
    ]
    schema = (
        "user_id string, item_id string, shown_at timestamp, position int, propensity double, last_engaged_at timestamp"
    )
    return local_frame(spark, rows, schema).persist()


def test_examination_over_the_cluster_is_that_of_the_kernel(made: BiasedLog, pairs: DataFrame) -> None:
    expected = fit_positions(
        harvest(count_showings(made.item_idx, made.position, made.engaged), N_POSITIONS), 1000, 0.01
    )
    assert expected.fitted
    for n_partitions in (1, 5):
        np.testing.assert_allclose(fit_examination(pairs.repartition(n_partitions)), expected.propensity, rtol=1e-9)


def test_examination_is_1_where_too_little_was_shown(pairs: DataFrame) -> None:
    assert fit_examination(pairs.limit(100)).tolist() == [1.0] * N_POSITIONS
    assert fit_examination(pairs.where("position > 100")).tolist() == [1.0] * N_POSITIONS


def test_chances_of_being_shown_are_those_of_the_kernel(made: BiasedLog, pairs: DataFrame) -> None:
    counts = count_exposures(made.user_idx, made.item_idx, np.full(len(made.item_idx), np.nan), 20)
    found = {row["item_id"]: row["chance"] for row in shown_chances(pairs).collect()}
    expected = shown_propensity(counts, 0.01)
    assert found == {f"i{item:02d}": pytest.approx(expected[item]) for item in range(20)}


def test_weights_are_the_inverse_of_both_chances_and_clipped(made: BiasedLog, pairs: DataFrame) -> None:
    fit = fit_inverse_weights(pairs, clip=5.0)
    chances = {row["item_id"]: row["chance"] for row in shown_chances(pairs).collect()}
    rows = fit.weights.join(pairs.select("user_id", "item_id", "position"), on=["user_id", "item_id"]).collect()
    assert len(rows) == len(made.user_idx)
    for row in rows[::500]:
        chance = chances[row["item_id"]] * fit.examined[row["position"] - 1]
        assert row["inverse"] == pytest.approx(min(5.0, 1 / chance))
    assert max(row["inverse"] for row in rows) == 5.0
