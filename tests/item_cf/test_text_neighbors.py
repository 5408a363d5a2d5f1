"""The catalogue's token matrix and its nearest items are those of dictionaries, for any partitions and blocks."""

from collections import Counter
from collections.abc import Iterator
from hashlib import md5
from math import log, sqrt

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.item_cf import neighbors as module
from recsys_spark.item_cf.text_neighbors import Vocabulary, fit_text_neighbors, fit_token_pairs
from tests.engagement import make_items, settings
from tests.local_frame import computed, local_frame

CATALOGUE = {
    "a": {"title": "Red tin box", "category": "home", "tags": ["new", "Tin"], "attributes": {"size": "9"}},
    "b": {"title": "blue TIN box box", "category": "home", "brand": "Ace"},
    "c": {"title": "red wool hat", "category": "wear", "brand": "ace ", "attributes": {"size": "9", "title": "box"}},
    "d": {"title": "wool hat", "tags": ["tin", "new"]},
    "e": {"title": "lamp", "category": "home", "attributes": {"colour": "red"}},
    "f": {"title": " - ", "category": "", "tags": [], "brand": None},
}
IDX = {"a": 0, "b": 1, "c": 2, "d": 5, "e": 6, "f": 7}
TOKENS = {
    0: "red tin box category=home tags=new tags=tin size=9",
    1: "blue tin box box category=home brand=ace",
    2: "red wool hat category=wear brand=ace size=9",
    5: "wool hat tags=tin tags=new",
    6: "lamp category=home",
}
FIELDS = ["title", "category", "brand", "tags", "size"]
EVERY = Vocabulary(FIELDS, 1, 1.0)


@pytest.fixture(scope="module")
def items(spark: SparkSession) -> DataFrame:
    """The catalogue with the places of its items, in two partitions."""
    index = local_frame(spark, [*IDX.items()], "item_id string, item_idx int")
    return computed(make_items(spark, CATALOGUE).join(index, on="item_id", how="inner")).repartition(2)


@pytest.fixture(autouse=True)
def nothing_kept(spark: SparkSession) -> Iterator[None]:
    """The cache is cleared, as a caller does: no later query has to be held against what is in it."""
    yield
    spark.catalog.clearCache()


def _vectors(least: int = 1, most: int = 5) -> dict[int, dict[str, float]]:
    """The weights of the tokens that at least `least` and at most `most` of the five items have."""
    counts = {item: Counter(text.split()) for item, text in TOKENS.items()}
    df = Counter(token for row in counts.values() for token in row)
    return {
        item: {
            token: log(1 + tf) * (log((1 + 5) / (1 + df[token])) + 1)
            for token, tf in row.items()
            if least <= df[token] <= most
        }
        for item, row in counts.items()
    }


def _matrix(pairs: DataFrame) -> dict[int, dict[int, float]]:
    assert pairs.dtypes == [
        ("row_idx", "int"), ("col_idx", "int"), ("weight", "float"), ("last_time", "timestamp")
    ]  # fmt: skip
    columns: dict[int, dict[int, float]] = {}
    for row in pairs.collect():
        assert row.row_idx not in columns.setdefault(row.col_idx, {})
        columns[row.col_idx][row.row_idx] = row.weight
    return columns


@pytest.mark.parametrize(
    ("min_df", "max_df_ratio", "most"),
    # 0.5 of five items with text is two and a half; the sixth item has none.
    [(1, 1.0, 5), (2, 1.0, 5), (1, 0.5, 2), (2, 0.4, 2)],
)
def test_fit_token_pairs_weighs_the_tokens_that_tell(
    items: DataFrame, min_df: int, max_df_ratio: float, most: int
) -> None:
    vectors = _vectors(min_df, most)
    tokens = sorted({token for row in vectors.values() for token in row}, key=lambda one: md5(one.encode()).hexdigest())
    found = _matrix(fit_token_pairs(items, Vocabulary(FIELDS, min_df, max_df_ratio)))
    expected = {item: {tokens.index(token): row[token] for token in row} for item, row in vectors.items() if row}
    assert {item: row.keys() for item, row in found.items()} == {item: row.keys() for item, row in expected.items()}
    for item, row in expected.items():
        np.testing.assert_allclose([found[item][at] for at in row], list(row.values()), rtol=1e-6)  # float32


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["title"], {0: 3, 1: 3, 2: 3, 5: 2, 6: 1}),
        (["tags"], {0: 2, 5: 2}),
        (["brand", "colour"], {1: 1, 2: 1, 6: 1}),
        (["none"], {}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_fit_token_pairs_reads_the_named_fields(items: DataFrame, fields: list[str], expected: dict[int, int]) -> None:
    found = _matrix(fit_token_pairs(items, Vocabulary(fields, 1, 1.0)))
    assert {item: len(row) for item, row in found.items()} == expected


def _lists(frame: DataFrame) -> dict[int, tuple[list[int], list[float]]]:
    return {row.col_idx: (row.neighbors, row.scores) for row in frame.collect() if row.neighbors}


def _cosine(left: dict[str, float], right: dict[str, float]) -> float:
    product = sum(weight * right[token] for token, weight in left.items() if token in right)
    return product / sqrt(sum(w**2 for w in left.values()) * sum(w**2 for w in right.values()))


def test_fit_text_neighbors_lists_the_nearest_by_cosine(items: DataFrame) -> None:
    listed, vectors = np.array([0, 1, 5, 6, 7]), _vectors()
    found = _lists(fit_text_neighbors(items, EVERY, 2, 1 << 20, listed))
    near = {
        item: {other: score for other in vectors if other != item and (score := _cosine(vector, vectors[other])) > 0}
        for item, vector in vectors.items()
    }
    best = {
        item: sorted((other for other in row if other in listed), key=lambda other: (-row[other], other))[:2]
        for item, row in near.items()
    }
    assert {item: neighbors for item, (neighbors, _) in found.items()} == best
    for item, (neighbors, scores) in found.items():
        np.testing.assert_allclose(scores, [near[item][other] for other in neighbors], rtol=1e-6)  # float32


def test_fit_text_neighbors_gives_the_same_bits_whatever_the_partitions_and_blocks(
    spark: SparkSession, items: DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    for n_partitions, n_blocks in ((3, 1), (7, 4)):
        monkeypatch.setattr(module, "blocks_for", lambda spark, n_pairs, n_bytes, n=n_blocks: n)
        with settings(spark, spark__sql__shuffle__partitions=n_partitions):
            answers.append(_lists(fit_text_neighbors(items.repartition(n_partitions), EVERY, 9, 1 << 20, np.arange(8))))
    assert answers[0] == answers[1]
    assert answers[0]


def test_fit_text_neighbors_keeps_long_rows_whole(spark: SparkSession) -> None:
    items = local_frame(spark, [(at, "same") for at in range(600)], "item_idx int, title string")
    found = _lists(fit_text_neighbors(items, Vocabulary(["title"], 1, 1.0), 1, 1 << 20, np.arange(600)))
    assert found == {0: ([1], [1.0])} | {item: ([0], [1.0]) for item in range(1, 600)}


def test_fit_text_neighbors_of_a_catalogue_without_text_is_nothing(items: DataFrame) -> None:
    assert fit_text_neighbors(items.where("item_id = 'f'"), EVERY, 2, 1 << 20, np.arange(8)).collect() == []
    assert fit_text_neighbors(items.limit(0), EVERY, 2, 1 << 20, np.arange(8)).collect() == []
