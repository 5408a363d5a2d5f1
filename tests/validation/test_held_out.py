"""Small runs see nothing of what is held out, and are what a run of that date would have been."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.ingest.clock import known_clock
from recsys_spark.signals.event_weights import known_events
from recsys_spark.validation import held_out
from recsys_spark.validation.held_out import Fold, folds, window_of
from tests.engagement import CUTOFF, DAY, Event, make_context, make_items, oracle_interactions
from tests.indexed_log import indexed_log

N_USERS, N_ITEMS = 30, 12
SETS = (
    "events.types={buy={},hide={role='dislike'}}",
    'sources.enabled=["popular","item_cf","successors"]',
    "validation.window_days=10",
    "candidates.available_within_days=40",
)


def a_log() -> list[Event]:
    """Every user has a few items over 200 days; some are disliked; a new item and a new user come in the last days."""
    rng = np.random.default_rng(4)
    log = []
    for user in range(N_USERS):
        for age in rng.integers(1, 200, 8).tolist():
            kind = "hide" if rng.random() < 0.1 else "buy"
            item = int(rng.integers(0, N_ITEMS))
            log.append(Event(f"u{user:02}", f"i{item:02}", kind, CUTOFF - timedelta(days=age, hours=-1)))
    log.append(Event("u00", "new item", "buy", CUTOFF - timedelta(days=3)))
    log.append(Event("new user", "i01", "buy", CUTOFF - timedelta(days=2)))
    log += [Event(None, "i02", "buy", CUTOFF - timedelta(days=age)) for age in (5, 15)]
    return log


@pytest.fixture(scope="module")
def log() -> list[Event]:
    return a_log()


def folds_of(
    spark: SparkSession, config: Config, log: list[Event], n_pairs: int = 100, items: Iterable[str] = ()
) -> tuple[list[Fold], Context, dict[str, dict[int, str]]]:
    """items: of the catalogue, which says of all of them the same."""
    context = make_context(spark, known_clock(config))
    tables = indexed_log(context, log, items=items)
    tables["items"] = make_items(spark, {item: {"category": "toys"} for item in items})
    first = min(event.event_time for event in log).date()
    names = {
        kind: {row[f"{kind}_idx"]: row[f"{kind}_id"] for row in tables[f"{kind}_index"].collect()}
        for kind in ("user", "item")
    }
    return list(folds(tables, context, first, n_pairs)), context, names


def targets_of(fold: Fold, names: dict[str, dict[int, str]]) -> dict[str, set[str]]:
    judged, targets = fold.judged.log.judged, fold.judged.targets
    found = {}
    for row, user in enumerate(judged):
        items = targets.indices[targets.indptr[row] : targets.indptr[row + 1]].tolist()
        found[names["user"][fold.user_idx[user]]] = {names["item"][item] for item in items}
    return found


def test_a_fold_is_the_run_of_its_date(
    spark: SparkSession, make_config: Callable[..., Config], log: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, context, names = folds_of(spark, make_config(*SETS), log)
    # Ten days are held out three times, because too few users judge them.
    assert [fold.context.day for fold in found] == [DAY - timedelta(days=days) for days in (10, 20, 30)]
    fold = found[0]
    cutoff = CUTOFF - timedelta(days=10)
    before = [event for event in log if event.event_time < cutoff]
    monkeypatch.setattr("tests.engagement.CUTOFF", cutoff)
    expected = oracle_interactions(before, context.config, {})
    rows, found_pairs = fold.judged.log.rows, {}
    users = np.repeat(np.arange(rows.n_rows), np.diff(rows.indptr))
    for at, (user, item) in enumerate(zip(users.tolist(), rows.cols.tolist(), strict=True)):
        pair = names["user"][fold.user_idx[user]], names["item"][item]
        found_pairs[pair] = rows.columns["weight"][at], rows.columns["time"][at]
    assert found_pairs.keys() == expected.keys()
    for pair, (weight, last_time, _, _) in expected.items():
        assert found_pairs[pair][0] == pytest.approx(weight, rel=1e-6)
        assert found_pairs[pair][1] == last_time.timestamp() * 1e6
    assert rows.columns["hidden"].all()
    available = {
        event.item_id
        for event in before
        if event.event_type == "buy" and event.event_time >= cutoff - timedelta(days=40)
    }
    assert {names["item"][item] for item in np.flatnonzero(fold.judged.log.listed)} == available
    had = set(expected)
    known = {event.item_id for event in before if event.user_id is not None}
    wanted: dict[str, set[str]] = {}
    for event in log:
        pair = event.user_id or "", event.item_id
        is_target = event.event_time >= cutoff and event.event_type == "buy" and event.item_id in known
        if is_target and pair not in had and any(user == pair[0] for user, _ in had):
            wanted.setdefault(pair[0], set()).add(event.item_id)
    assert targets_of(fold, names) == wanted
    popular = fold.judged.shared["popular/global"]
    assert set(fold.judged.shared) == {"popular/global", "popular/trending"}
    assert {names["item"][item] for item in popular.indices} <= available
    assert fold.judged.log.histories is not None
    n_events = sum(event.event_type == "buy" and event.user_id is not None for event in before)
    assert len(fold.judged.log.histories.items) == n_events


@pytest.mark.parametrize("clock", ["order", "none"])
def test_without_times_a_part_of_histories_is_held_out(
    spark: SparkSession,
    make_config: Callable[..., Config],
    log: list[Event],
    clock: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the catalogue has items that nobody has had, some that somebody has become as new as these."""
    nobody_has = [f"never {number}" for number in range(12 if clock == "none" else 0)]
    catalogue = [*nobody_has, *(sorted({event.item_id for event in log}) if nobody_has else [])]
    monkeypatch.setattr(held_out, "_MOST_NEW", 0.4)
    sets = (*SETS, f"events.clock={clock}", 'sources.enabled=["popular","als","successors"]')
    (fold,), _, names = folds_of(spark, make_config(*sets), log, items=catalogue)
    assert fold.context.day == DAY
    found, had = targets_of(fold, names), fold.judged.log.had
    assert len(found) > N_USERS / 4
    made_new = set()
    if nobody_has:
        of_log = np.array([not names["item"][idx].startswith("never") for idx in range(len(had))])
        made_new = {names["item"][idx] for idx in np.flatnonzero(of_log & ~had)}
        assert 2 <= len(made_new) <= 10
        assert made_new & {item for items in found.values() for item in items}  # they are gone on to as any
        assert fold.judged.log.listed[of_log].all()
        assert (fold.judged.log.listed & ~had).sum() == len(nobody_has)
    kept = {
        (row["user_id"], row["item_id"])
        for row in known_events(fold.inputs["events"], CUTOFF).where("event_type = 'buy'").collect()
    }
    for user, items in found.items():
        mine = sorted((event for event in log if event.user_id == user and event.event_type == "buy"), key=_time)
        if clock == "order":
            assert items <= {event.item_id for event in mine if event.event_time == mine[-1].event_time}
        assert not {(user, item) for item in items} & kept
        assert items < {event.item_id for event in mine}
    bought = {(e.user_id, e.item_id) for e in log if e.user_id and e.event_type == "buy"}
    assert not made_new & {item for _, item in kept}
    n_held = len({pair for pair in bought - kept if pair[1] not in made_new})
    if clock == "none":
        assert 0.02 < n_held / len(kept) < 0.25
    assert (fold.judged.log.histories is None) == (clock == "none")
    assert "popular/trending" not in fold.judged.shared


def _time(event: Event) -> object:
    return event.event_time


def test_of_a_larger_log_users_are_drawn_and_of_the_judged_too(
    spark: SparkSession, make_config: Callable[..., Config], log: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "_ENOUGH", 4)
    config = make_config(*SETS, 'sources.enabled=["popular","als"]', "validation.max_pairs=100", "validation.users=4")
    (fold,), _, _ = folds_of(spark, config, log, 200)
    assert 0 < fold.judged.log.rows.n_rows < 0.8 * N_USERS
    assert len(fold.judged.log.judged) <= 4
    assert fold.judged.targets.n_rows == len(fold.judged.log.judged)
    assert fold.judged.log.share == 0.5
    # What nobody in particular did still makes items popular.
    assert fold.inputs["events"].where("user_id is null").count() == 2


def test_a_young_log_holds_out_a_fifth_of_its_days(spark: SparkSession, make_config: Callable[..., Config]) -> None:
    context = make_context(spark, make_config("validation.window_days=28"))
    assert window_of(context, DAY - timedelta(days=300)) == 28
    assert window_of(context, DAY - timedelta(days=50)) == 10
    assert window_of(replace(context, day=DAY), DAY - timedelta(days=3)) == 1
