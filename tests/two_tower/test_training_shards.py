"""Shards come back from their files as they were written, to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.two_tower.kernels.batches import NONE, Draws, Shard, batches_of, proposal, take
from recsys_spark.two_tower.kernels.inputs import Encoded
from recsys_spark.two_tower.training_shards import _ragged as _ragged_of
from recsys_spark.two_tower.training_shards import read_items, read_users, write_items, write_users
from recsys_spark.warehouse.scratch import Scratch
from tests.staged import no_items
from tests.two_groups import catalogue, users


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "scratch")


def _encoded(rng: np.random.Generator, n: int, width: int, has_ids: bool) -> Encoded:
    indptr, total = _ragged(rng, n)
    return Encoded(
        rng.normal(size=(n, width)).astype(np.float32),
        indptr,
        rng.integers(0, 2**31, total).astype(np.int32),
        rng.normal(size=total).astype(np.float32),
        rng.integers(0, 2**31, n).astype(np.int32) if has_ids else np.empty(0, np.int32),
    )


def _ragged(rng: np.random.Generator, n: int) -> tuple[np.ndarray, int]:
    indptr = np.cumsum([0, *rng.integers(0, 3, n)], dtype=np.int64)
    return indptr, int(indptr[-1])


def _shard(seed: int, n: int, n_shown: int, width: int, has_ids: bool) -> Shard:
    rng = np.random.default_rng(seed)
    indptr, total = _ragged(rng, n)
    return Shard(
        rng.permutation(2**31 - 1 - np.arange(n)).astype(np.int32),
        indptr,
        rng.integers(0, 2**31, total).astype(np.int32),
        rng.integers(-(2**62), 2**62, total),
        rng.exponential(size=total).astype(np.float32),
        rng.integers(NONE, 5, (n, n_shown)).astype(np.int32),
        _encoded(rng, n, width, has_ids),
    )


def _assert_same(found: Any, expected: Any) -> None:
    for name, one, other in zip(expected._fields, found, expected, strict=True):
        if isinstance(other, tuple):
            _assert_same(one, other)
        else:
            assert (name, one.dtype, one.shape) == (name, other.dtype, other.shape)
            np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 2), st.integers(0, 3), st.booleans())
def test_read_users_gives_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, n_shown: int, width: int, has_ids: bool
) -> None:
    scratch, shard = Scratch(tmp_path_factory.mktemp("shards")), _shard(seed, n, n_shown, width, has_ids)
    write_users(scratch, 0, shard)
    _assert_same(read_users(scratch, 0), shard)


def test_read_users_gives_the_shard_of_that_number(scratch: Scratch) -> None:
    for number in (0, 1, 12):
        write_users(scratch, number, users(2, first=10 * number))
    assert [read_users(scratch, number).users.tolist() for number in (12, 0)] == [[120, 121], [0, 1]]


def test_a_part_of_a_table_has_offsets_from_its_own_start() -> None:
    lists = pa.table({"a": pa.array([[1, 2], [3], [4, 5, 6]], pa.large_list(pa.int64()))}).slice(1)
    indptr, values = _ragged_of(lists, "a")
    assert (indptr.tolist(), values.tolist()) == ([0, 1, 4], [3, 4, 5, 6])


def test_read_users_of_a_shard_without_any(scratch: Scratch) -> None:
    write_users(scratch, 0, users(0))
    found = read_users(scratch, 0)
    assert [len(part) for part in found[:6]] == [0, 1, 0, 0, 0, 0]
    assert [part.dtype for part in found[:6]] == [np.int32, np.int64, np.int32, np.int64, np.float32, np.int32]
    assert [len(part) for part in found.encoded] == [0, 1, 0, 0, 0]


def test_read_users_is_enough_for_batches(scratch: Scratch) -> None:
    """What is read is mapped and cannot be written to: nothing may want to."""
    shard = users(10)
    write_users(scratch, 0, shard)
    draws, known = Draws(proposal(np.ones(40), np.ones(40, bool), "uniform"), 2, 0), shard.indptr[:-1]
    pairs = [
        list(batches_of(one, known, None, draws, 3, 7, np.random.default_rng(1)))
        for one in (shard, read_users(scratch, 0))
    ]
    for expected, found in zip(*pairs, strict=True):
        _assert_same(found, expected)


def test_read_items_gives_all_shards_in_their_order(scratch: Scratch) -> None:
    whole = catalogue()
    for number, rows in enumerate((np.arange(0, 17), np.arange(17, 18), np.arange(18, 40))):
        write_items(scratch, number, take(whole, rows))
    _assert_same(read_items(scratch, 3), whole)


@pytest.mark.parametrize(("width", "has_ids"), [(0, True), (2, False), (0, False)])
def test_read_items_of_few_kinds_of_features(scratch: Scratch, width: int, has_ids: bool) -> None:
    parts = [_encoded(np.random.default_rng(seed), 4, width, has_ids) for seed in range(2)]
    for number, part in enumerate(parts):
        write_items(scratch, number, part)
    found = read_items(scratch, 2)
    _assert_same(take(found, np.arange(4)), parts[0])
    _assert_same(take(found, np.arange(4, 8)), parts[1])


def test_items_and_users_of_the_same_number_are_two_files(scratch: Scratch) -> None:
    write_users(scratch, 0, users(3))
    write_items(scratch, 0, catalogue())
    assert len(read_users(scratch, 0).users) == 3
    assert len(read_items(scratch, 1).dense) == 40


def test_no_items_are_none_of_every_user() -> None:
    found = no_items(3)
    assert (found.shape, found.dtype) == ((3, 0), np.int32)
