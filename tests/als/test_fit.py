"""A fit over blocks is the fit of one process, ends when it should, and goes on after a kill where it was."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.als import fit
from recsys_spark.als.blocks import Sizes
from recsys_spark.als.fit import Fit, block_bytes_for, exchange_for, factor_rows, fit_factors
from recsys_spark.als.kernels.fold_in import fold_in
from recsys_spark.als.kernels.objective import gramian, initial_factors
from recsys_spark.config.models import Als
from recsys_spark.errors import KernelError
from recsys_spark.failpoint import FailpointReached
from recsys_spark.warehouse.scratch import Scratch
from tests.als_fits import (
    SEED,
    Entries,
    factors_of,
    force_blocks,
    make_pairs,
    make_settings,
    ridge_of,
    sizes_of,
    take_entries,
    whole_fit,
)
from tests.als_oracle import assert_rows_near, oracle_row, solved
from tests.item_cf_oracle import long_tailed
from tests.local_frame import local_frame

# Of the greatest factor of a row: each half takes over the float32 errors of the half before.
TOLERANCE = 1e-4
OBJECTIVE_TOLERANCE = 1e-6


@pytest.fixture(autouse=True)
def _entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit takes Entries in place of a frame; which are the same is asserted where partitions are."""
    take_entries(monkeypatch)


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "scratch")


def _matrix() -> np.ndarray:
    """Fifty users and thirty items, one of each without an entry."""
    found = long_tailed(1, 50, 30)
    found[7], found[:, 4] = 0, 0
    return found


@pytest.fixture
def matrix() -> np.ndarray:
    return _matrix()


# The same fit everywhere


class Spread(NamedTuple):
    """A fit of `_matrix` whose pairs come backwards in seven partitions."""

    settings: Als
    n_blocks: int
    found: Fit
    scratch: Scratch

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        return factors_of(self.found, self.scratch, self.settings)

    def bits(self) -> tuple[list[float], bytes, bytes]:
        users, items = self.factors()
        return self.found.objectives[1:], users.tobytes(), items.tobytes()


@pytest.fixture(scope="module")
def spread(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Spread]:
    """One fit by each exchange."""
    fits = {}
    for exchange, n_blocks in (("local", 1), ("broadcast", 3), ("shuffle", 7)):
        settings = make_settings(exchange=exchange, iterations=1 if exchange == "broadcast" else 2)
        scratch = Scratch(tmp_path_factory.mktemp(exchange) / "scratch")
        pairs = make_pairs(spark, _matrix(), 7, -1)
        with pytest.MonkeyPatch.context() as patch:
            force_blocks(patch, n_blocks)
            found = fit_factors(pairs, sizes_of(_matrix()), settings, SEED, scratch)
        fits[exchange] = Spread(settings, n_blocks, found, scratch)
    return fits


@pytest.mark.parametrize("exchange", ["local", "broadcast", "shuffle"])
def test_fit_factors_gives_the_fit_of_one_process(spread: dict[str, Spread], matrix: np.ndarray, exchange: str) -> None:
    settings, n_blocks, found, _ = spread[exchange]
    assert (found.users.side.n_blocks, found.items.side.n_blocks) == (n_blocks, n_blocks)
    x, y, objectives = whole_fit(matrix, settings)
    for vectors, expected in zip(spread[exchange].factors(), (x, y), strict=True):
        assert_rows_near(vectors, expected, TOLERANCE)
    # What the start adds to the first objective is not counted.
    assert np.isnan(found.objectives[0])
    np.testing.assert_allclose(found.objectives[1:], objectives[1:], rtol=OBJECTIVE_TOLERANCE)
    assert (found.n_iterations, found.n_resumed) == (settings.iterations, 0)


@pytest.mark.parametrize("exchange", ["local", "shuffle"])
def test_fit_factors_gives_the_same_bits_whatever_the_partitions_and_the_order(
    spark: SparkSession,
    scratch: Scratch,
    spread: dict[str, Spread],
    matrix: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    exchange: str,
) -> None:
    """Fault row 5."""
    settings, n_blocks, *_ = spread[exchange]
    force_blocks(monkeypatch, n_blocks)
    found = fit_factors(make_pairs(spark, matrix, 3, 1), sizes_of(matrix), settings, SEED, scratch)
    assert Spread(settings, n_blocks, found, scratch).bits() == spread[exchange].bits()


def test_fit_factors_gives_the_same_bits_of_entries(
    scratch: Scratch, spread: dict[str, Spread], matrix: np.ndarray
) -> None:
    """What the fits below go by."""
    settings, n_blocks, expected, _ = spread["local"]
    found = fit_factors(Entries(matrix, n_blocks), sizes_of(matrix), settings, SEED, scratch)
    assert (found.users.side, found.items.side) == (expected.users.side, expected.items.side)
    assert Spread(settings, n_blocks, found, scratch).bits() == spread["local"].bits()


@pytest.mark.parametrize(
    ("n_pairs", "n_users", "changes", "expected"),
    [
        (1000, 50, {}, "local"),
        # 16 bytes of an entry on both sides, 4 of a number of a factor.
        ((1 << 24) // 16 - 5, 1, {}, "local"),
        ((1 << 24) // 16 - 4, 1, {}, "broadcast"),
        (1000, 1 << 20, {}, "broadcast"),
        (1000, 1 << 20, {"broadcast_bytes": (1 << 20) * 10 * 4}, "broadcast"),
        (1000, 1 << 20, {"broadcast_bytes": (1 << 20) * 10 * 4 - 1}, "shuffle"),
        (1 << 30, 1 << 30, {"exchange": "local"}, "local"),
        (1, 1, {"exchange": "shuffle"}, "shuffle"),
    ],
)
def test_exchange_for_goes_by_size_unless_it_is_set(
    n_pairs: int, n_users: int, changes: dict[str, object], expected: str
) -> None:
    settings = make_settings(factors=10, **{"exchange": "auto"} | changes)
    assert exchange_for(n_pairs, Sizes(n_users, 1, n_users, 1), settings) == expected


def test_block_bytes_for_leaves_room_for_what_a_task_is_sent_in_a_shuffle() -> None:
    settings = make_settings(factors=128, block_bytes=1 << 28)
    assert block_bytes_for("broadcast", settings) == 1 << 28
    # A pair's 104 bytes come with the factors of its column, three times.
    assert block_bytes_for("shuffle", settings) == (1 << 28) * 104 // (128 * 12)
    assert block_bytes_for("shuffle", make_settings(factors=8, block_bytes=1 << 28)) == 1 << 28


@pytest.mark.parametrize(("exchange", "n_rows"), [("local", 0), ("broadcast", 4), ("shuffle", 0)])
def test_fit_factors_of_no_pairs_is_nothing(spark: SparkSession, scratch: Scratch, exchange: str, n_rows: int) -> None:
    none, settings = np.zeros((n_rows, n_rows), np.float32), make_settings(exchange=exchange, iterations=1)
    pairs = Entries(none) if exchange == "local" else make_pairs(spark, none)
    found = fit_factors(pairs, sizes_of(none), settings, SEED, scratch)
    assert [vectors.tolist() for vectors in factors_of(found, scratch, settings)] == [[[0.0] * 5] * n_rows] * 2
    assert factor_rows(spark, found.users, found.items.side, scratch).collect() == []


# The end of a fit


def test_fit_factors_ends_when_an_iteration_gains_less_than_the_tolerance(scratch: Scratch, matrix: np.ndarray) -> None:
    settings = make_settings(iterations=40, tolerance=1e-3)
    found = fit_factors(Entries(matrix), sizes_of(matrix), settings, SEED, scratch)
    whole = whole_fit(matrix, settings)[2][1::2]
    gains = [(before - after) / after for before, after in pairwise(whole)]
    expected = 2 + next(at for at, gain in enumerate(gains) if gain < 1e-3)
    assert 2 < expected < 40
    assert all(gain > 0 for gain in gains)
    assert found.n_iterations == expected
    assert all(after < before for before, after in pairwise(found.objectives[1::2]))
    _, y, _ = whole_fit(matrix, settings.model_copy(update={"iterations": expected}))
    # More halves than elsewhere take over each other's errors.
    assert_rows_near(factors_of(found, scratch, settings)[1], y, 10 * TOLERANCE)


def test_fit_factors_may_end_with_its_second_iteration(scratch: Scratch, matrix: np.ndarray) -> None:
    settings = make_settings(iterations=6, tolerance=0.9)
    assert fit_factors(Entries(matrix), sizes_of(matrix), settings, SEED, scratch).n_iterations == 2


def test_fit_factors_of_zero_tolerance_ends_with_the_iterations(scratch: Scratch) -> None:
    matrix = np.ones((4, 3), np.float32)  # there is nothing more to gain after the first of them
    settings = make_settings(factors=1, iterations=6)
    assert fit_factors(Entries(matrix), sizes_of(matrix), settings, SEED, scratch).n_iterations == 6


def test_fit_factors_takes_rounding_for_no_rise_and_goes_on_without_a_tolerance(scratch: Scratch) -> None:
    # Blocks that are fitted to next to nothing: what is left is rounding of large sums.
    matrix = np.kron(np.eye(4), np.ones((20, 20))).astype(np.float32)
    settings = make_settings(factors=8, alpha=40.0, regularization=0.001, nu=0.0, iterations=20, tolerance=0.0)
    found = fit_factors(Entries(matrix), sizes_of(matrix), settings, SEED, scratch)
    assert found.n_iterations == 20
    assert found.objectives[-1] < 1e-5 * 1600 * 41


def test_fit_factors_refuses_an_objective_that_rises(
    scratch: Scratch, matrix: np.ndarray, failpoint: Callable[[str], None]
) -> None:
    pairs = Entries(matrix)
    failpoint("als.after_half:3")
    with pytest.raises(FailpointReached):
        fit_factors(pairs, sizes_of(matrix), make_settings(), SEED, scratch)
    failpoint("none")
    marker = scratch.marker("half-00003")
    assert marker is not None
    scratch.mark("half-00003", marker | {"objectives": [marker["objectives"][0], 10.0, marker["objectives"][2]]})
    with pytest.raises(
        KernelError, match=r"als: expected an objective of at most 10 after half-iteration 4, got \d+.*; raise als.reg"
    ):
        fit_factors(pairs, sizes_of(matrix), make_settings(), SEED, scratch)


# After a kill


def test_fit_factors_goes_on_after_the_last_half_that_was_done(
    spark: SparkSession,
    scratch: Scratch,
    spread: dict[str, Spread],
    matrix: np.ndarray,
    failpoint: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault row 1."""
    settings, n_blocks, *_ = spread["shuffle"]
    force_blocks(monkeypatch, n_blocks)
    pairs = make_pairs(spark, matrix)
    failpoint("als.after_half:3")
    with pytest.raises(FailpointReached):
        fit_factors(pairs, sizes_of(matrix), settings, SEED, scratch)
    failpoint("none")
    found = fit_factors(pairs, sizes_of(matrix), settings, SEED, scratch)
    assert found.n_resumed == 3
    assert len(found.objectives) == 4
    for resumed, expected in zip(factors_of(found, scratch, settings), spread["shuffle"].factors(), strict=True):
        np.testing.assert_array_equal(resumed, expected)


class Kept(NamedTuple):
    """A fit in one go, with a copy of its scratch after each of its halves.

    Six of three iterations, one for all users, one for items with few users.
    """

    pairs: Entries
    sizes: Sizes
    settings: Als
    vectors: tuple[np.ndarray, np.ndarray]
    folder: Path

    def resume(self, scratch: Scratch) -> Fit:
        return fit_factors(self.pairs, self.sizes, self.settings, SEED, scratch)

    def copy(self, half: int, scratch: Scratch) -> None:
        """Makes `scratch` what a kill after `half` leaves behind."""
        shutil.copytree(self.folder / str(half), scratch.folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("fit")
    matrix, scratch = long_tailed(1, 50, 30), Scratch(folder / "scratch")
    settings, pairs = make_settings(min_users_per_item=8, min_items_per_user=6), Entries(matrix, 2)
    halves = iter(range(1, 9))
    with pytest.MonkeyPatch.context() as patch:
        take_entries(patch)
        patch.setattr(fit, "failpoint", lambda name: shutil.copytree(scratch.folder, folder / str(next(halves))))
        found = fit_factors(pairs, sizes_of(matrix), settings, SEED, scratch)
    assert list(halves) == []
    return Kept(pairs, sizes_of(matrix), settings, factors_of(found, scratch, settings), folder)


def _assert_is_kept(found: Fit, scratch: Scratch, kept: Kept) -> None:
    for vectors, expected in zip(factors_of(found, scratch, kept.settings), kept.vectors, strict=True):
        np.testing.assert_array_equal(vectors, expected)


@pytest.mark.parametrize("half", range(1, 9))
def test_fit_factors_can_be_killed_after_any_half(scratch: Scratch, kept: Kept, half: int) -> None:
    kept.copy(half, scratch)
    found = kept.resume(scratch)
    assert found.n_resumed == half
    assert found.n_iterations == 3
    _assert_is_kept(found, scratch, kept)


@pytest.mark.parametrize(
    ("half", "damage"), [(2, "flipped"), (3, "cut"), (4, "gone"), (7, "flipped"), (8, "cut"), (8, "gone")]
)
def test_fit_factors_goes_back_a_half_if_the_newest_factors_are_damaged(
    scratch: Scratch, kept: Kept, half: int, damage: str
) -> None:
    kept.copy(half, scratch)
    (path,) = scratch.folder.glob(f"*-half-{half:05d}-00001.npy")
    content = path.read_bytes()
    match damage:
        case "flipped":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "gone":
            path.unlink()
    found = kept.resume(scratch)
    assert found.n_resumed == half - 1
    _assert_is_kept(found, scratch, kept)


def test_fit_factors_goes_back_if_the_other_side_of_an_ended_fit_is_damaged(scratch: Scratch, kept: Kept) -> None:
    kept.copy(8, scratch)  # half 7 are the users' factors
    (scratch.folder / "users-half-00007-00001.npy").unlink()
    found = kept.resume(scratch)
    assert found.n_resumed == 6
    _assert_is_kept(found, scratch, kept)


def test_fit_factors_goes_back_a_half_if_the_newest_marker_is_damaged(scratch: Scratch, kept: Kept) -> None:
    kept.copy(5, scratch)
    (scratch.folder / "half-00005.json").write_bytes(b'{"half": 5, "obj')
    found = kept.resume(scratch)
    assert found.n_resumed == 4
    _assert_is_kept(found, scratch, kept)


def test_fit_factors_starts_anew_if_a_block_of_the_matrix_is_damaged(scratch: Scratch, kept: Kept) -> None:
    kept.copy(3, scratch)
    (scratch.folder / "users-00001-cols.npy").write_bytes(b"damaged")
    found = kept.resume(scratch)
    assert found.n_resumed == 0
    _assert_is_kept(found, scratch, kept)


@pytest.mark.parametrize("changed", ["settings", "seed", "pairs", "sizes"])
def test_fit_factors_starts_anew_if_anything_is_different(scratch: Scratch, kept: Kept, changed: str) -> None:
    kept.copy(3, scratch)
    pairs, sizes, settings, seed = kept.pairs, kept.sizes, kept.settings, SEED
    match changed:
        case "settings":
            settings = settings.model_copy(update={"alpha": 3.0})
        case "seed":
            seed = SEED + 1
        case "pairs":
            without = pairs.matrix.copy()
            without[:, 3] = 0
            pairs = Entries(without, 2)
        case "sizes":
            sizes = Sizes(50, 30, 50, 31)
    found = fit_factors(pairs, sizes, settings, seed, scratch)
    assert found.n_resumed == 0
    fresh = Scratch(scratch.folder / "fresh")
    expected = factors_of(fit_factors(pairs, sizes, settings, seed, fresh), fresh, settings)
    for vectors, anew in zip(factors_of(found, scratch, settings), expected, strict=True):
        np.testing.assert_array_equal(vectors, anew)


def test_fit_factors_solves_nothing_again_once_it_has_ended(
    scratch: Scratch, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.copy(8, scratch)

    def refuse(*arguments: object) -> None:
        raise AssertionError("solved again")

    for name in ("solve_half", "fit_blocks", "store_start"):
        monkeypatch.setattr(fit, name, refuse)
    found = kept.resume(scratch)
    assert (found.n_resumed, found.n_iterations) == (8, 3)
    _assert_is_kept(found, scratch, kept)


def test_fit_factors_keeps_no_more_than_the_last_half_of_a_side(kept: Kept) -> None:
    stored = {half: {path.name[:16] for path in (kept.folder / str(half)).glob("*-half-*")} for half in (1, 5, 6)}
    assert stored == {
        1: {"items-half-00000", "users-half-00001"},
        5: {"items-half-00004", "users-half-00005"},
        6: {"items-half-00006", "users-half-00005"},
    }


# A start from an earlier fit


def _start(spark: SparkSession, vectors: np.ndarray, n_items: int) -> DataFrame:
    rows = [(idx, vectors[idx].tolist()) for idx in range(n_items)]
    return local_frame(spark, rows, "item_idx int, vector array<float>")


def test_fit_factors_from_an_earlier_fit_needs_fewer_iterations(spark: SparkSession, tmp_path: Path) -> None:
    yesterday = long_tailed(11, 150, 80)
    yesterday[:, 77:] = 0
    today = yesterday.copy()
    today[np.random.default_rng(12).random(today.shape) < 0.003] = 1
    today[::40, 77:] = 1  # new items
    settings = make_settings(factors=8, alpha=10.0, regularization=0.01, iterations=25)
    pairs, sizes = Entries(today, 1, spark), sizes_of(today)
    earlier = whole_fit(yesterday, settings)[1]
    cold = fit_factors(pairs, sizes, settings, SEED, Scratch(tmp_path / "cold")).objectives[1::2]
    start = _start(spark, earlier, 77)
    warm = fit_factors(pairs, sizes, settings, SEED, Scratch(tmp_path / "warm"), start).objectives[1::2]
    enough = 1.001 * cold[-1]
    taken = [int((np.array(objectives) <= enough).argmax()) + 1 for objectives in (cold, warm)]
    assert min(warm) <= enough
    assert taken[1] <= taken[0] / 2, taken


def test_fit_factors_starts_items_that_are_new_next_to_zero(
    spark: SparkSession, scratch: Scratch, matrix: np.ndarray
) -> None:
    settings, vectors = make_settings(iterations=1), initial_factors(0, 30, 5, 99)
    begin = _start(spark, vectors, 25).repartition(3)
    found = fit_factors(Entries(matrix, 1, spark), sizes_of(matrix), settings, SEED, scratch, begin)
    start = np.where(np.arange(30)[:, None] < 25, vectors, 0.1 * initial_factors(0, 30, 5, SEED)).astype(np.float32)
    for each, expected in zip(factors_of(found, scratch, settings), whole_fit(matrix, settings, start), strict=False):
        assert_rows_near(each, expected, TOLERANCE)


def test_fit_factors_gives_factors_to_new_users_of_new_items(spark: SparkSession, scratch: Scratch) -> None:
    # Nobody joins them to the others: from zero they would stay there.
    matrix = np.kron(np.eye(2), np.ones((5, 5))).astype(np.float32)
    settings, vectors = make_settings(iterations=3), initial_factors(0, 10, 5, 99)
    found = fit_factors(Entries(matrix, 1, spark), sizes_of(matrix), settings, SEED, scratch, _start(spark, vectors, 5))
    for each in factors_of(found, scratch, settings):
        assert np.abs(each[5:]).max(axis=1).min() > 0.1


def test_fit_factors_ignores_a_start_of_another_length(
    spark: SparkSession, tmp_path: Path, scratch: Scratch, matrix: np.ndarray
) -> None:
    settings, start = make_settings(iterations=1), _start(spark, initial_factors(0, 30, 4, 99), 30)
    found = fit_factors(Entries(matrix, 1, spark), sizes_of(matrix), settings, SEED, scratch, start)
    for each, expected in zip(factors_of(found, scratch, settings), whole_fit(matrix, settings), strict=False):
        assert_rows_near(each, expected, TOLERANCE)


# Rows that are left out


def test_fit_factors_leaves_users_with_few_items_out_until_the_end(scratch: Scratch, matrix: np.ndarray) -> None:
    # nu = 0: the ridge counts what a row has, be it left out or not.
    settings = make_settings(min_items_per_user=6, nu=0.0)
    few = (matrix > 0).sum(axis=1) < 6
    assert 5 < few.sum() < 45
    found = fit_factors(Entries(matrix), sizes_of(matrix), settings, SEED, scratch)
    x, y = factors_of(found, scratch, settings)
    assert_rows_near(y, whole_fit(np.where(few[:, None], 0, matrix), settings)[1], TOLERANCE)
    assert_rows_near(x, solved(matrix, y, ridge_of(settings)).X, TOLERANCE)


def test_fit_factors_leaves_items_with_few_users_out_and_folds_them_in(scratch: Scratch, matrix: np.ndarray) -> None:
    settings = make_settings(min_users_per_item=10, nu=0.0)
    few = (matrix > 0).sum(axis=0) < 10
    assert 5 < few.sum() < 25
    found = fit_factors(Entries(matrix), sizes_of(matrix), settings, SEED, scratch)
    x, y = factors_of(found, scratch, settings)
    # They start like the others, for the first half; from then on nobody has them.
    without = np.where(few, 0, matrix)
    first = solved(without.T, solved(matrix, initial_factors(0, 30, 5, SEED), ridge_of(settings)).X, ridge_of(settings))
    without_x, without_y, _ = whole_fit(without, settings.model_copy(update={"iterations": 2}), first.X)
    assert_rows_near(x, without_x, TOLERANCE)
    assert_rows_near(y[~few], without_y[~few], TOLERANCE)
    assert_rows_near(y[few], solved(matrix.T, x, ridge_of(settings)).X[few], TOLERANCE)
    assert np.flatnonzero(~y.any(axis=1)).tolist() == [4]  # which nobody has


def test_fit_factors_ends_with_users_who_are_their_history_folded_in(scratch: Scratch, matrix: np.ndarray) -> None:
    settings = make_settings(min_items_per_user=6)
    found = fit_factors(Entries(matrix), sizes_of(matrix), settings, SEED, scratch)
    x, y = factors_of(found, scratch, settings)
    ridge, gram = ridge_of(settings), gramian(y)
    folded = [fold_in(y[row > 0], row[row > 0], gram, 30, *ridge) for row in matrix]
    assert_rows_near(x, np.array(folded), TOLERANCE)


# Attributes


def _fit_with_attributes(matrix: np.ndarray, n_users: int, n_items: int, y: np.ndarray, settings) -> list[np.ndarray]:
    """Factors of users and items, their attributes after them: a row of attributes sees the entities alone."""
    ridge = ridge_of(settings)

    def side(rows: np.ndarray, fixed: np.ndarray, n_rows: int, n_cols: int) -> np.ndarray:
        entities = [oracle_row(row, fixed, ridge) for row in rows[:n_rows]]
        return np.array(entities + [oracle_row(row[:n_cols], fixed[:n_cols], ridge) for row in rows[n_rows:]])

    for _ in range(settings.iterations):
        x = side(matrix, y, n_users, n_items)
        y = side(matrix.T, x, n_items, n_users)
    return [side(matrix, y, n_users, n_items), y]


@pytest.mark.parametrize("exchange", ["local", "shuffle"])
def test_fit_factors_with_attributes_gives_the_fit_of_the_oracle(
    spark: SparkSession, scratch: Scratch, monkeypatch: pytest.MonkeyPatch, exchange: str
) -> None:
    n_users, n_items = 40, 25
    matrix = long_tailed(5, n_users + 3, n_items + 2)
    matrix[n_users:, n_items:] = 0  # attributes know nothing of attributes
    pairs: Entries | DataFrame = Entries(matrix, 3)
    if exchange == "shuffle":
        pairs = make_pairs(spark, matrix)
        force_blocks(monkeypatch, 3)
    settings = make_settings(exchange=exchange, iterations=1 if exchange == "broadcast" else 2)
    found = fit_factors(pairs, sizes_of(matrix, 2, 3), settings, SEED, scratch)
    start = initial_factors(0, n_items + 2, settings.factors, SEED)
    expected = _fit_with_attributes(matrix, n_users, n_items, start, settings)
    for vectors, of_oracle in zip(factors_of(found, scratch, settings), expected, strict=True):
        assert_rows_near(vectors, of_oracle, TOLERANCE)
    unmasked = whole_fit(matrix, settings)[1]
    assert np.abs(expected[1] - unmasked).max() > 100 * TOLERANCE


def test_fit_factors_puts_an_item_without_events_near_those_of_its_attribute(
    spark: SparkSession, scratch: Scratch
) -> None:
    matrix = np.zeros((22, 11), np.float32)
    matrix[:10, :5], matrix[10:20, 5:10] = 1, 1  # two groups of users, each with items of its own
    matrix[np.arange(20), np.tile(np.arange(5), 4) + np.repeat([0, 5], 10)] = 0  # nobody has all of them
    matrix[20, :5], matrix[21, 5:11] = 1, 1  # the attribute of each group; item 10 has nothing else
    settings = make_settings(factors=2, alpha=10.0, iterations=10)
    found = fit_factors(Entries(matrix), sizes_of(matrix, 0, 2), settings, SEED, scratch)
    items = {row.idx: row for row in factor_rows(spark, found.items, found.users.side, scratch).collect()}
    assert (items[10].n, items[10].weight) == (0, 0.0)
    assert (items[9].n, items[9].weight) == (8, 8.0)
    units = {idx: np.array(row.vector) / np.linalg.norm(row.vector) for idx, row in items.items()}
    assert min(units[10] @ units[idx] for idx in range(5, 10)) > 0.9
    assert max(units[10] @ units[idx] for idx in range(5)) < 0.5


# Rows of the tables


def test_factor_rows_are_those_of_entities_that_have_any(spark: SparkSession, scratch: Scratch) -> None:
    matrix = long_tailed(6, 23, 17)
    matrix[20:, 15:] = 0
    matrix[3] = 0
    matrix[4, :15], matrix[4, 15] = 0, 1.0  # an attribute, and no item
    settings = make_settings(iterations=1)
    found = fit_factors(Entries(matrix, 4), sizes_of(matrix, 2, 3), settings, SEED, scratch)
    x, _ = factors_of(found, scratch, settings)
    rows = {row.idx: row for row in factor_rows(spark, found.users, found.items.side, scratch).collect()}
    assert sorted(rows) == [user for user in range(20) if user != 3]
    for user, row in rows.items():
        assert row.vector == x[user].tolist()
        assert row.n == np.count_nonzero(matrix[user, :15])
        assert row.weight == pytest.approx(matrix[user, :15].astype(float).sum(), rel=1e-12)
    assert (rows[4].n, rows[4].weight) == (0, 0.0)


def test_fit_factors_refuses_a_matrix_that_has_no_solution(scratch: Scratch, matrix: np.ndarray) -> None:
    settings = make_settings(regularization=0.0, factors=35)
    with pytest.raises(KernelError, match=r"als.regularization: expected a ridge above 0, got 0"):
        fit_factors(Entries(matrix), sizes_of(matrix), settings, SEED, scratch)
