"""Gates on the content of all lists, on planted days: each passes on a sound one and names what is wrong."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.pipeline.gates import content as gates_content
from recsys_spark.pipeline.gates.content import content
from recsys_spark.pipeline.gates.verdict import Gate, Measured
from tests.engagement import Event, make_events, make_items
from tests.staged_lists import DAY, NOW, RUN_ID, Lists, frame, list_rows, staged

N_USERS = 24
SOUND = {
    f"u{at:02d}": [(item, rank, 1 / rank) for rank, item in enumerate(("xy", "yz", "zx")[at % 3], start=1)]
    for at in range(N_USERS)
}
BRANDS = {"x": "A", "y": "B", "z": "B"}


def with_item(lists: Lists, item: str) -> Lists:
    """The lists with `item` in second place of all."""
    return {user: [one[0], (item, 2, one[1][2])] for user, one in lists.items()}


@pytest.fixture
def verdicts(spark: SparkSession, make_config: Callable[..., Config]) -> Callable[..., dict[str, Gate]]:
    def run(
        lists: Lists, before: Lists | None = None, *sets: str, sold: str = "xyz", engaged: str = "xyz", shared: str = ""
    ) -> dict[str, Gate]:
        # Nothing proposes what nobody has had, so that z is not available where it is not sold.
        context = Context(make_config('sources.enabled=["als"]', *sets), DAY, RUN_ID, 1, spark)
        inputs = staged(spark, lists)
        events = [Event("u00", item, "purchase", NOW - timedelta(days=1)) for item in sold]
        catalogue = {item: {"brand": brand} for item, brand in BRANDS.items()}
        rows = [
            {"user_idx": 0, "item_idx": "xyz".index(item), "weight": 1.0, "last_time": NOW, "n_events": 1}
            for item in engaged
        ]
        inputs |= {
            "events": make_events(spark, events),
            "items": make_items(spark, catalogue),
            "interactions": frame(spark, "interactions", rows),
        }
        if shared:
            fallback = list_rows({"": [(item, rank, 1 / rank) for rank, item in enumerate(shared, start=1)]})
            inputs["fallback_candidates"] = frame(spark, "fallback_candidates", fallback)
        if before is not None:
            inputs["base_candidates"] = frame(spark, "candidates", list_rows(before))
        return {gate.name: gate for gate in content(inputs, context, Measured())}

    return run


def failed(found: dict[str, Gate]) -> dict[str, float | None]:
    return {name: gate.figure for name, gate in found.items() if gate.outcome == "failed"}


def test_a_sound_day_passes_beside_the_day_before(verdicts: Callable[..., dict[str, Gate]]) -> None:
    found = verdicts(SOUND, SOUND | {"gone": SOUND["u00"]})
    assert {gate.outcome for gate in found.values()} == {"passed"}
    figures = {name: gate.figure for name, gate in found.items()}
    expected = {"overlap": 1.0, "repeated_lists": 8 / 24, "unavailable_items": 0, "never_engaged": 0.0}
    # x and y were in 17 of 25 lists, z in 16.
    assert figures == expected | {
        "one_brand": pytest.approx(32 / 48),
        "item_jump": pytest.approx(16 / 24 - 16 / 25),
    }


def test_the_first_day_skips_what_compares(verdicts: Callable[..., dict[str, Gate]]) -> None:
    found = verdicts(SOUND)
    assert {name for name, gate in found.items() if gate.outcome == "skipped"} == {"overlap", "item_jump"}
    assert failed(found) == {}


def test_an_item_in_every_list_overnight_is_refused_by_name(verdicts: Callable[..., dict[str, Gate]]) -> None:
    before: Lists = {user: [("x", 1, 1.0), ("y", 2, 0.5)] for user in SOUND}
    lists, setting = with_item(before, "z") | {"u01": before["u01"]}, "audit.max_repeated_lists=1.0"
    found = verdicts(lists, before, setting, shared="xy")
    assert failed(found) == {"item_jump": pytest.approx(23 / 24)}
    assert found["item_jump"].detail.startswith("item 'z'")
    assert failed(verdicts(lists, before, setting, shared="z")) == {}, "what sells may come into all lists"


def test_lists_that_hold_nearly_everything_have_room_for_what_is_new(verdicts: Callable[..., dict[str, Gate]]) -> None:
    before: Lists = {user: [("x", 1, 1.0), ("y", 2, 0.5)] for user in SOUND}
    found = verdicts(
        {user: [*one, ("z", 3, 0.1)] for user, one in before.items()}, before, "audit.max_repeated_lists=1.0"
    )
    assert (found["item_jump"].outcome, found["item_jump"].detail) == (
        "skipped",
        "a list holds most of what is listed at all",
    )
    assert found["overlap"].figure == pytest.approx(2 / 3)
    assert failed(found) == {}


def test_what_moves_at_the_end_of_lists_is_no_jump(
    verdicts: Callable[..., dict[str, Gate]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates_content, "_FIRST_PLACES", 1)
    before: Lists = {user: [("x", 1, 1.0)] for user in SOUND}
    lists: Lists = {user: [("x", 1, 1.0), ("y", 2, 0.5)] for user in SOUND} | {"u00": [("z", 1, 1.0)]}
    assert failed(verdicts(lists, before, "audit.max_repeated_lists=1.0", shared="x")) == {}


def test_other_lists_than_the_day_before_are_refused(verdicts: Callable[..., dict[str, Gate]]) -> None:
    before: Lists = {user: [({"x": "z", "y": "x", "z": "y"}[items[0][0]], 1, 1.0)] for user, items in SOUND.items()}
    short: Lists = {user: items[:1] for user, items in SOUND.items()}
    assert failed(verdicts(short, before)) == {"overlap": 0.0}


def test_the_same_list_for_all_is_refused_but_not_among_few(verdicts: Callable[..., dict[str, Gate]]) -> None:
    same: Lists = {user: [("y", 1, 1.0)] for user in SOUND}
    found = verdicts(same, None, "audit.max_one_brand=0.6")
    assert failed(found) == {"repeated_lists": 1.0}
    assert found["one_brand"].outcome == "skipped", "no other brand is listed"
    few = {user: same[user] for user in list(same)[:19]}
    assert verdicts(few)["repeated_lists"].outcome == "skipped"


def test_items_that_are_not_available_that_nobody_had_or_of_one_brand_are_refused(
    verdicts: Callable[..., dict[str, Gate]],
) -> None:
    found = verdicts(SOUND, None, "audit.max_one_brand=0.6", sold="xy", engaged="x")
    assert failed(found) == {
        "unavailable_items": 1,  # z
        "never_engaged": pytest.approx(32 / 48),  # y and z
        "one_brand": pytest.approx(32 / 48),
    }
    assert found["unavailable_items"].detail == "e.g. 'z'"
    assert found["one_brand"].detail == "brand 'B'"
