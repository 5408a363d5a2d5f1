"""Who gets a list and what is kept out of it, on Spark frames of a few rows."""

from datetime import datetime

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from recsys_spark.adapters import blend
from recsys_spark.adapters.blend import (
    active_users,
    fit_settings,
    fit_shared,
    fit_shown,
    is_hidden,
    weight_of,
)
from recsys_spark.config.schema import Candidates
from recsys_spark.errors import KernelError
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.engagement import CUTOFF, FOREVER, TYPES_SET, Event, before, make_events, make_items

ITEM_IDS = ["i0", "i1", "i2", "i3", "i4"]


def frame(spark: SparkSession, table: str, rows: list[tuple]) -> DataFrame:
    return spark.createDataFrame(rows, spark_schema(TABLES[table], without=("run_id",)))


def interaction(
    user_idx: int, item_idx: int, last: datetime, until: datetime | None = None, n_events: int = 1
) -> tuple:
    return (user_idx, item_idx, 0.0, last, n_events, until)


def ranked(*items: int) -> list[Row]:
    return [Row(item_idx=item, rank=at + 1, score=10.0 - at) for at, item in enumerate(items)]


def make_inputs(spark: SparkSession, **rows: list[tuple]) -> dict[str, DataFrame]:
    n_users = 1 + max((row[0] for row in rows.get("interactions", [])), default=0)
    inputs = {
        "user_index": [(user, f"u{user}") for user in range(n_users)],
        "item_index": list(enumerate(ITEM_IDS)),
        "user_features": [(f"u{user}", ["FR", None][user % 2], []) for user in range(n_users)],
        "interactions": [],
        "source_candidates": [],
    } | rows
    return {name: frame(spark, name, rows) for name, rows in inputs.items()}


def test_weight_of_a_list_is_its_own_then_its_sources_then_one() -> None:
    weights = {"popular": 2.0, "popular/trending": 3.0}
    assert [weight_of(name, weights) for name in ("popular/trending", "popular/global", "popular", "als")] == [
        3,
        2,
        2,
        1,
    ]


# (days since the last engagement, number of engagements, days for which a dislike still holds) -> hidden, by policy
ROWS = {
    "bought long ago": ((200, 1, None), {"exclude": True, "keep": False, "repeat_after_days": False}),
    "bought lately": ((29, 1, None), {"exclude": True, "keep": False, "repeat_after_days": True}),
    "bought just so long ago": ((30, 1, None), {"exclude": True, "keep": False, "repeat_after_days": False}),
    "disliked": ((200, 0, 5), {"exclude": True, "keep": True, "repeat_after_days": True}),
    "dislike has expired": ((200, 0, -5), {"exclude": False, "keep": False, "repeat_after_days": False}),
    "dislike expires at the date": ((200, 0, 0), {"exclude": False, "keep": False, "repeat_after_days": False}),
    "bought, dislike has expired": ((200, 1, -5), {"exclude": True, "keep": False, "repeat_after_days": False}),
    "bought lately and disliked": ((1, 1, 5), {"exclude": True, "keep": True, "repeat_after_days": True}),
}


@pytest.mark.parametrize("policy", ["exclude", "keep", "repeat_after_days"])
def test_is_hidden_follows_the_policy_and_a_dislike_always(spark: SparkSession, make_config, policy: str) -> None:
    candidates = make_config(f"candidates.seen={policy}", "candidates.repeat_after_days=30").candidates
    rows = [
        interaction(0, at, before(days=age), before(days=-until) if until is not None else None, n_events)
        for at, ((age, n_events, until), _) in enumerate(ROWS.values())
    ]
    found = frame(spark, "interactions", rows).select("item_idx", is_hidden(candidates, CUTOFF)).collect()
    assert dict(zip(ROWS, [hidden for _, hidden in sorted(found)], strict=True)) == {
        name: hidden[policy] for name, (_, hidden) in ROWS.items()
    }


def test_active_users_are_those_of_the_last_days_with_their_exclusions_sorted(spark: SparkSession, make_config) -> None:
    rows = [interaction(0, item, before(days=500)) for item in (4, 2)] + [interaction(0, 3, before(days=365))]
    rows += [interaction(1, 0, before(days=366)), interaction(2, 1, before(days=1), FOREVER, 0)]
    inputs = make_inputs(spark, interactions=rows)
    users = active_users(inputs, make_config().candidates, CUTOFF).collect()
    assert sorted(tuple(user) for user in users) == [(0, "u0", "FR", [2, 3, 4]), (2, "u2", "FR", [1])]
    everyone = make_config("candidates.active_within_days=0").candidates
    assert sorted(user["user_id"] for user in active_users(inputs, everyone, CUTOFF).collect()) == ["u0", "u1", "u2"]


def test_fit_shown_takes_what_was_engaged_with_or_created_lately(spark: SparkSession, make_config) -> None:
    events = [
        Event(None, "i0", "buy", before(days=28)),
        Event("u0", "i1", "buy", before(days=29)),
        Event("u0", "i2", "return", before(days=1)),
        Event("u0", "i2", "show", before(days=1)),
        Event("u0", "i9", "buy", before(days=1)),  # not indexed
    ]
    created = {"i1": before(days=29), "i2": CUTOFF, "i3": before(days=28), "i4": None}
    inputs = make_inputs(spark) | {
        "events": make_events(spark, events),
        "items": make_items(spark, {name: {"created_at": time} for name, time in created.items()}),
    }
    usual = 'sources.enabled=["popular","als"]'
    shown = fit_shown(inputs, make_config(TYPES_SET, usual), CUTOFF)
    assert (shown.item_idx.tolist(), shown.item_id.to_pylist()) == ([0, 3], ["i0", "i3"])
    # i4 is in the catalogue alone, and nobody knows since when; i1 was had, long ago.
    content = fit_shown(inputs, make_config(TYPES_SET, 'sources.enabled=["content"]'), CUTOFF)
    assert content.item_idx.tolist() == [0, 3, 4]
    by_brand = fit_shown(inputs, make_config(TYPES_SET, usual, 'als.item_attributes=["brand"]'), CUTOFF)
    assert by_brand.item_idx.tolist() == [0, 3, 4]
    everything = fit_shown(inputs, make_config(TYPES_SET, "candidates.available_within_days=0"), CUTOFF)
    assert everything.item_idx.tolist() == [0, 1, 2, 3, 4]


def test_fit_shown_refuses_more_bytes_than_it_may_collect(
    spark: SparkSession, make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blend, "MAX_ID_BYTES", 9)
    config = make_config("candidates.available_within_days=0")
    with pytest.raises(
        KernelError, match=r"blend: expected at most 9 bytes of ids .*, got 10; lower available_within_days"
    ):
        fit_shown(make_inputs(spark), config, CUTOFF)


def _fit(spark: SparkSession, inputs: dict[str, DataFrame], candidates: Candidates):
    shown = blend.Shown(*_shown(spark))
    settings = fit_settings(inputs["source_candidates"], candidates)
    return fit_shared(inputs["source_candidates"], settings, shown)


def _shown(spark: SparkSession):
    table = spark.createDataFrame(list(enumerate(ITEM_IDS)), "item_idx int, item_id string").toArrow()
    return table["item_idx"].to_numpy(), table["item_id"].combine_chunks()


SOURCE_ROWS = [
    ("top", None, None, ranked(0, 1, 2), None, None, None),
    ("near", None, "FR", ranked(3), None, None, None),
    ("als", 1, None, ranked(4, 0), None, None, None),
]


def test_fit_shared_refuses_more_bytes_than_it_may_collect(
    spark: SparkSession, make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blend, "MAX_SHARED_BYTES", 4 * 12 - 1)
    with pytest.raises(KernelError, match=r"expected at most 47 bytes of lists .*, got 48; lower max_items"):
        _fit(spark, make_inputs(spark, source_candidates=SOURCE_ROWS), make_config().candidates)
