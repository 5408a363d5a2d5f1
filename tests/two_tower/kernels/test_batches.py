"""Batches against loops: the example itself is never in its history, and nothing of the validated days in either."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.two_tower.kernels.batches import (
    NONE,
    Batch,
    Draws,
    Shard,
    after_split,
    batches_of,
    entries_of,
    examples_of,
    held_out,
    histories_of,
    items_before,
    known_from,
    proposal,
    take,
)
from recsys_spark.two_tower.kernels.inputs import Encoded
from tests.two_groups import Entry, shard_of

# Few times, so that ties are many; every item once per user.
_history = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0])),
    max_size=7,
    unique_by=lambda entry: entry[0],
)
_histories = st.lists(_history, max_size=6)
UNIFORM = Draws(proposal(np.ones(10), np.ones(10, bool), "uniform"), n_random=3, n_hard=0)


def _batches(shard: Shard, seed: int = 1, **changes: object) -> list[Batch]:
    given_ = {
        "known": shard.indptr[:-1],
        "hard": None,
        "draws": UNIFORM,
        "history_items": 3,
        "batch_size": 4,
    }
    return list(batches_of(shard, **given_ | changes, rng=np.random.default_rng(seed)))  # type: ignore[arg-type]


def _newest_first(history: list[Entry]) -> list[Entry]:
    return sorted(history, key=lambda entry: (-entry[1], entry[0]))


@given(_histories, st.integers(1, 4), st.integers(1, 5), st.integers(0, 5), st.data())
def test_batches_of_give_every_example_once_with_the_newest_others_that_are_known(
    histories: list[list[Entry]], history_items: int, batch_size: int, split_time: int, data: st.DataObject
) -> None:
    validated = np.array([data.draw(st.booleans()) for _ in histories], bool)
    shard = shard_of(histories)
    known = known_from(shard, validated, split_time)
    found = []
    for batch in _batches(shard, known=known, history_items=history_items, batch_size=batch_size):
        ends = np.cumsum(batch.lengths)
        history = np.split(shard.items[histories_of(batch)], ends[:-1])
        items_of = zip(batch.rows, batch.positive, batch.weights, history, strict=True)
        found += [(row, item, weight, others.tolist()) for row, item, weight, others in items_of]
    expected = []
    for user, history_ in enumerate(histories):
        may_be_known = [one for one in _newest_first(history_) if not (validated[user] and one[1] >= split_time)]
        for item, _, weight in may_be_known:
            others = [other for other, _, _ in may_be_known if other != item][:history_items]
            expected += [(user, item, weight, others)] if weight > 0 else []
    assert sorted(found) == sorted(expected)


@given(_histories)
def test_after_split_is_where_the_past_begins(histories: list[list[Entry]]) -> None:
    shard = shard_of(histories)
    rows = np.arange(len(histories))[::-1]
    for row, start in zip(rows, after_split(shard, rows, 2), strict=True):
        had = {item for item, time, _ in histories[row] if time < 2}
        assert set(shard.items[start : shard.indptr[row + 1]]) == had
        assert shard.indptr[row] <= start


@given(_histories)
def test_items_before_are_the_next_older_ones(histories: list[list[Entry]]) -> None:
    shard = shard_of(histories)
    for batch in _batches(shard):
        for row, item, before in zip(batch.rows, batch.positive, items_before(shard, batch), strict=True):
            items = [item_ for item_, _, _ in _newest_first(histories[row])]
            assert before == [*items, NONE][items.index(item) + 1]


def test_batches_of_are_full_but_the_last() -> None:
    shard = shard_of([[(item, item, 1.0) for item in range(5)], [(item, item, 1.0) for item in range(4)]])
    assert [len(batch.rows) for batch in _batches(shard)] == [4, 4, 1]
    assert [len(batch.rows) for batch in _batches(shard, batch_size=100)] == [9]
    assert _batches(shard, known=shard.indptr[1:]) == []


def test_batches_of_are_the_same_for_the_same_generator_and_in_random_order() -> None:
    shard = shard_of([[(item, item, 1.0) for item in range(10)]] * 10)
    hard = np.arange(100, dtype=np.int32).reshape(10, 10) % 10
    draws = Draws(UNIFORM.probabilities, 3, 2)
    one, again, other = (_batches(shard, seed, hard=hard, draws=draws) for seed in (1, 1, 2))
    for batch, same in zip(one, again, strict=True):
        for values, repeated in zip(batch, same, strict=True):
            np.testing.assert_array_equal(values, repeated)
    assert [batch.rows.tolist() for batch in one] != [batch.rows.tolist() for batch in other]
    order = [int(row) for batch in one for row in batch.rows]
    assert order != sorted(order)


def test_batches_of_draw_random_items_for_each_example() -> None:
    shard = shard_of([[(item, item, 1.0) for item in range(10)]] * 50)
    (batch,) = _batches(shard, batch_size=1000, draws=Draws(np.array([0, 0.75, 0, 0.25, *[0] * 6]), 4, 0))
    assert (batch.random.shape, batch.hard.shape) == ((500, 4), (500, 0))
    assert set(batch.random.ravel()) == {1, 3}
    # 2000 draws: 0.75 within five deviations.
    assert abs((batch.random == 1).mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 2000)


def test_batches_of_take_hard_items_from_those_of_the_user() -> None:
    shard = shard_of([[(item, item, 1.0) for item in range(10)]] * 3)
    hard = np.array([[7, 8], [9, NONE], [NONE, NONE]], np.int32)
    (batch,) = _batches(shard, batch_size=100, hard=hard, draws=Draws(UNIFORM.probabilities, 0, 5))
    assert (batch.random.shape, batch.hard.shape) == ((30, 0), (30, 5))
    for user in range(3):
        assert set(batch.hard[batch.rows == user].ravel()) == set(hard[user])


@pytest.mark.parametrize(("hard", "n_hard"), [(None, 2), (np.empty((1, 0), np.int32), 2), (np.zeros((1, 2), "i4"), 0)])
def test_batches_of_have_no_hard_items_if_there_are_none_or_none_are_asked_for(
    hard: np.ndarray | None, n_hard: int
) -> None:
    shard = shard_of([[(item, item, 1.0) for item in range(5)]])
    batches = _batches(shard, hard=hard, draws=Draws(UNIFORM.probabilities, 1, n_hard))
    assert [batch.hard.shape for batch in batches] == [(4, 0), (1, 0)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_parts_of_all_ranks_are_the_batch(world_size: int) -> None:
    shard = shard_of([[(item, item, 1.0) for item in range(5)]])
    hard = np.arange(10, dtype=np.int32)[None]
    (batch,) = _batches(shard, batch_size=5, hard=hard, draws=Draws(UNIFORM.probabilities, 3, 2))
    parts = [batch.part(rank, world_size) for rank in range(world_size)]
    assert sorted(len(part.rows) for part in parts) == sorted(
        len(range(rank, 5, world_size)) for rank in range(world_size)
    )
    for whole, *split in zip(batch, *parts, strict=True):
        found = sorted(chain.from_iterable(values.tolist() for values in split), key=repr)
        assert found == sorted(whole.tolist(), key=repr)
    for part in parts:  # what belongs to one example stays together
        for row, *values in zip(part.positive, *part, strict=True):
            at = batch.positive.tolist().index(row)
            assert all(np.array_equal(one, whole[at]) for one, whole in zip(values, batch, strict=True))


@given(_histories, st.integers(0, 5), st.data())
def test_examples_of_validated_users_end_at_the_split(
    histories: list[list[Entry]], split_time: int, data: st.DataObject
) -> None:
    validated = np.array([data.draw(st.booleans()) for _ in histories], bool)
    shard = shard_of(histories)
    expected = []
    for user in range(len(histories)):
        for entry in range(shard.indptr[user], shard.indptr[user + 1]):
            if shard.weights[entry] > 0 and not (validated[user] and shard.times[entry] >= split_time):
                expected.append(entry)
    assert examples_of(shard, known_from(shard, validated, split_time)).tolist() == expected


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("first", [0, 2**31 - 20_001])
def test_held_out_takes_about_the_share_of_users(share: float, first: int) -> None:
    n = 20_000
    found = held_out(np.arange(first, first + n, dtype=np.int32), share, seed=3)
    deviation = np.sqrt(n * share * (1 - share))
    assert abs(found.sum() - n * share) <= 4 * deviation
    # Every block of users has its part, and neighbours say nothing of each other.
    blocks = found.reshape(20, -1).sum(axis=1)
    assert np.abs(blocks - 1000 * share).max() <= 4 * np.sqrt(1000 * share * (1 - share))
    both = (found[1:] & found[:-1]).sum()
    assert abs(both - n * share**2) <= 5 * np.sqrt(n * share**2) * (share < 1) + 1


def test_held_out_goes_by_splitmix64() -> None:
    first = (6457827717110365317 >> 11) / 2**53  # of a generator that begins at 1234567, as published with it
    assert [held_out(np.zeros(1, np.int32), first + by, 1234567)[0] for by in (0, 2**-53)] == [False, True]


def test_held_out_is_the_same_wherever_a_user_is_and_grows_with_the_share() -> None:
    users = np.arange(1000, dtype=np.int32)
    found = held_out(users, 0.2, 7)
    order = np.random.default_rng(1).permutation(users)
    np.testing.assert_array_equal(held_out(order, 0.2, 7), found[order])
    assert not (found & ~held_out(users, 0.3, 7)).any()
    assert (held_out(users, 0.2, 2**64 - 1) != found).any()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=8))
def test_entries_of_are_the_places_of_every_history(parts: list[tuple[int, int]]) -> None:
    starts, lengths = (np.array([part[at] for part in parts], np.int64) for at in (0, 1))
    assert entries_of(starts, lengths).tolist() == [start + at for start, n in parts for at in range(n)]


@pytest.mark.parametrize("has_ids", [True, False])
def test_take_gives_rows_in_the_order_that_is_asked_for(has_ids: bool) -> None:
    rng = np.random.default_rng(1)
    lengths = np.array([2, 0, 3, 1])
    ids = np.array([5, 6, 7, 8], np.int32) if has_ids else np.empty(0, np.int32)
    buckets, weights = rng.integers(0, 9, 6).astype(np.int32), rng.normal(size=6).astype(np.float32)
    encoded = Encoded(rng.normal(size=(4, 2)).astype(np.float32), np.cumsum([0, *lengths]), buckets, weights, ids)
    rows = np.array([2, 1, 2, 0])
    found = take(encoded, rows)
    np.testing.assert_array_equal(found.dense, encoded.dense[rows])
    assert found.indptr.tolist() == [0, 3, 3, 6, 8]
    places = [2, 3, 4, 2, 3, 4, 0, 1]
    assert found.buckets.tolist() == buckets[places].tolist()
    assert found.weights.tolist() == weights[places].tolist()
    assert found.ids.tolist() == ([7, 6, 7, 5] if has_ids else [])
    assert [part.dtype for part in found] == [np.float32, np.int64, np.int32, np.float32, np.int32]


def test_take_of_no_rows_keeps_the_width() -> None:
    encoded = Encoded(np.ones((2, 3), "f4"), np.array([0, 1, 1]), np.ones(1, "i4"), np.ones(1, "f4"), np.ones(2, "i4"))
    found = take(encoded, np.empty(0, np.int64))
    assert [part.shape for part in found] == [(0, 3), (1,), (0,), (0,), (0,)]
