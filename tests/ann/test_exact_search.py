"""Through Spark every user gets the list that trying all items gives."""

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.ann import exact_search
from recsys_spark.ann.exact_search import fit_items, search_users
from recsys_spark.errors import KernelError
from recsys_spark.numeric.top_k import Items
from tests.als_oracle import normal_factors
from tests.local_frame import local_frame

N_USERS, N_ITEMS, SIZE = 40, 25, 4
X, Y = normal_factors(1, N_USERS, SIZE), normal_factors(2, N_ITEMS, SIZE)
SHOWN = np.arange(N_ITEMS) % 7 != 3
HIDDEN = np.random.default_rng(3).random((N_USERS, N_ITEMS)) < 0.3


def _vectors(spark: SparkSession, name: str, vectors: np.ndarray, without: tuple[int, ...] = ()) -> DataFrame:
    rows = [(idx, vector.tolist(), bool(SHOWN[idx % N_ITEMS])) for idx, vector in enumerate(vectors)]
    kept = [row for row in rows if row[0] not in without]
    return local_frame(spark, kept[::-1], f"{name} int, vector array<float>, shown boolean").repartition(3)


def _pairs(spark: SparkSession, hidden: np.ndarray) -> DataFrame:
    pairs = [(int(user), int(item)) for user, item in zip(*np.nonzero(hidden), strict=True)]
    return local_frame(spark, pairs, "user_idx int, item_idx int").repartition(3)


def _brute_force(x: np.ndarray, y: np.ndarray, hidden: np.ndarray, k: int) -> dict[int, list[tuple[int, float]]]:
    """Products in float64, rounded once; ties by the smaller idx."""
    lists = {}
    for user in range(len(x)):
        scores = [
            (item, np.float32(sum(x[user].astype(float) * y[item].astype(float))))
            for item in range(len(y))
            if SHOWN[item] and not hidden[user, item]
        ]
        lists[user] = sorted(scores, key=lambda entry: (-entry[1], entry[0]))[:k]
    return {user: entries for user, entries in lists.items() if entries}


def _lists(frame: DataFrame, source: str = "als") -> dict[int, list[tuple[int, float]]]:
    rows = frame.collect()
    assert {(row["source"], row["segment"]) for row in rows} <= {(source, None)}
    assert len({row["user_idx"] for row in rows}) == len(rows)
    for row in rows:
        assert [item["rank"] for item in row["items"]] == list(range(1, len(row["items"]) + 1))
    return {row["user_idx"]: [(item["item_idx"], item["score"]) for item in row["items"]] for row in rows}


def _assert_near(found: dict[int, list[tuple[int, float]]], expected: dict[int, list[tuple[int, float]]]) -> None:
    assert found.keys() == expected.keys()
    for user, entries in expected.items():
        assert [item for item, _ in found[user]] == [item for item, _ in entries]
        # Both sum in float64 and round once, in other orders.
        np.testing.assert_allclose([score for _, score in found[user]], [score for _, score in entries], rtol=1e-6)


@pytest.fixture(scope="module")
def items(spark: SparkSession) -> Items:
    return fit_items(_vectors(spark, "item_idx", Y), N_ITEMS, 1.0, "retrieve", "als.factors")


def _search(
    spark: SparkSession, items: Items, k: int, users: DataFrame | None = None, hidden: np.ndarray = HIDDEN
) -> DataFrame:
    users = _vectors(spark, "user_idx", X) if users is None else users
    return search_users(users, _pairs(spark, hidden), N_USERS, items, "als", k)


@pytest.mark.parametrize("k", [3, 1000])
def test_search_users_gives_the_best_that_may_be_shown(spark: SparkSession, items: Items, k: int) -> None:
    _assert_near(_lists(_search(spark, items, k)), _brute_force(X, Y, HIDDEN, k))


@pytest.fixture(scope="module")
def whole(spark: SparkSession, items: Items) -> tuple[int, dict[int, list[tuple[int, float]]]]:
    """Partitions and lists of a search in one block."""
    found = _search(spark, items, 5)
    return found.rdd.getNumPartitions(), _lists(found)


@pytest.mark.parametrize("bound", ["_USERS_PER_BLOCK", "_BLOCK_BYTES"])
def test_search_users_gives_the_same_bits_in_several_blocks(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, items: Items, whole: tuple[int, dict], bound: str
) -> None:
    # Two tasks for each core, if there are ten users for each; or bytes for nine users, half of them for hidden items.
    monkeypatch.setattr(exact_search, bound, 10 if bound == "_USERS_PER_BLOCK" else 2 * 9 * (5 * 24 + SIZE * 12))
    cut = _search(spark, items, 5)
    assert (whole[0], cut.rdd.getNumPartitions()) == (1, 4 if bound == "_USERS_PER_BLOCK" else 5)
    assert _lists(cut) == whole[1]


def test_search_users_gives_users_without_a_vector_or_anything_to_show_no_list(
    spark: SparkSession, items: Items
) -> None:
    gone, hidden = (0, 17, N_USERS - 1), HIDDEN.copy()
    hidden[4] = True
    found = _lists(_search(spark, items, 3, _vectors(spark, "user_idx", X, gone), hidden))
    assert not {*gone, 4} & found.keys()
    expected = _brute_force(X, Y, hidden, 3)
    _assert_near(found, {user: entries for user, entries in expected.items() if user not in gone})


def test_search_users_without_anything_hidden_or_any_user(spark: SparkSession, items: Items) -> None:
    nothing = np.zeros_like(HIDDEN)
    _assert_near(_lists(_search(spark, items, 5, hidden=nothing)), _brute_force(X, Y, nothing, 5))
    assert _lists(_search(spark, items, 5, _vectors(spark, "user_idx", X[:0]))) == {}


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_fit_items_damps_long_vectors(spark: SparkSession, exponent: float) -> None:
    items = fit_items(_vectors(spark, "item_idx", Y), N_ITEMS, exponent, "retrieve", "als.factors")
    assert sorted(items.idx.tolist()) == np.flatnonzero(SHOWN).tolist()
    wide = Y[items.idx].astype(float)
    expected = wide * np.linalg.norm(wide, axis=1, keepdims=True) ** (exponent - 1)
    np.testing.assert_allclose(items.vectors, expected, rtol=1e-6)


def test_fit_items_without_factors_finds_nothing(spark: SparkSession) -> None:
    items = fit_items(_vectors(spark, "item_idx", Y[:0]), N_ITEMS, 1.0, "retrieve", "als.factors")
    assert _lists(search_users(_vectors(spark, "user_idx", X), _pairs(spark, HIDDEN), N_USERS, items, "als", 3)) == {}


def test_fit_items_refuses_more_than_it_can_send(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    n_bytes = N_ITEMS * SIZE * 4
    monkeypatch.setattr(exact_search, "MAX_VECTOR_BYTES", n_bytes - 1)
    with pytest.raises(
        KernelError,
        match=rf"retrieve: expected at most {n_bytes - 1} bytes of vectors, got {n_bytes}; lower als.factors",
    ):
        fit_items(_vectors(spark, "item_idx", Y), N_ITEMS, 1.0, "retrieve", "als.factors")
