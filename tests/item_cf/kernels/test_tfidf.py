"""Tokens of titles and values, their weights, and the cosine that the item-item kernel makes of them."""

from collections import Counter
from math import log, sqrt

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.item_cf.kernels.tfidf import tfidf_weights, token_counts
from tests.item_cf_oracle import lists_of, neighbors_of, similarity_of
from tests.sparse import csr_of_pairs

TEXTS = pa.list_(pa.string())


def _counts(**values: list[list[str | None] | None]) -> list[dict[str, int]]:
    found = token_counts({field: pa.array(rows, TEXTS) for field, rows in values.items()})
    assert found.type == pa.map_(pa.string(), pa.int32())
    return [dict(row) for row in found.to_pylist()]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Red  TIN red-box", {"red": 2, "tin": 1, "box": 1}),
        ("STRASSE, Straße", {"strasse": 2}),  # casefold
        ("ＴＥＡ ﬁne", {"tea": 1, "fine": 1}),  # NFKC: full width, ligature
        ("cafe\u0301 café", {"café": 2}),  # NFKC: an accent of its own
        ("Чай №5_a", {"чай": 1, "no5_a": 1}),
        ("!? - ", {}),
        ("", {}),
    ],
)
def test_token_counts_cuts_titles_into_words(title: str, expected: dict[str, int]) -> None:
    assert _counts(title=[[title]]) == [expected]


def test_token_counts_takes_other_fields_as_whole_values_under_their_names() -> None:
    found = _counts(title=[["Red box"]], brand=[["Red  Box "]], tags=[["red", "Ｒed", " ", "sale"]], size=[["9"]])
    assert found == [{"red": 1, "box": 1, "brand=red box": 1, "tags=red": 1, "tags=sale": 1, "size=9": 1}]


def test_token_counts_has_a_row_for_every_row_whatever_is_missing() -> None:
    found = _counts(title=[None, [None], ["a"], []], tags=[["x", None], None, [], None])
    assert found == [{"tags=x": 1}, {}, {"a": 1}, {}]


def test_token_counts_of_no_rows_is_empty() -> None:
    assert _counts(title=[], tags=[]) == []


def test_tfidf_weights_follow_the_formula() -> None:
    weights = tfidf_weights(np.array([1, 3, 1]), np.array([1, 1, 9]), 9)
    assert weights.dtype == np.float32
    rare = log(10 / 2) + 1
    # The last token is in every item, and still weighs something.
    np.testing.assert_allclose(weights, [log(2) * rare, log(4) * rare, log(2)], rtol=1e-7)  # float32


TITLES = ["red tin box", "blue tin box box", "red wool hat", "wool hat", "lamp", "tin tin lamp red", ""]
BRANDS = ["ace", "bee", "ace", None, "red", "bee", None]


def _oracle() -> list[dict[int, float]]:
    """Cosine of every item to the others, where above 0, by dictionaries alone."""
    tokens = [
        [*title.split(), *([f"brand={brand}"] if brand else [])] for title, brand in zip(TITLES, BRANDS, strict=True)
    ]
    n = sum(bool(row) for row in tokens)
    df = Counter(token for row in tokens for token in set(row))
    vectors = [
        {token: log(1 + tf) * (log((1 + n) / (1 + df[token])) + 1) for token, tf in Counter(row).items()}
        for row in tokens
    ]
    lengths = [sqrt(sum(weight**2 for weight in vector.values())) for vector in vectors]
    found: list[dict[int, float]] = [{} for _ in vectors]
    for i, vector in enumerate(vectors):
        for j, other in enumerate(vectors):
            product = sum(weight * other.get(token, 0) for token, weight in vector.items())
            if i != j and product:
                found[i][j] = product / lengths[i] / lengths[j]
    return found


def test_tokens_and_weights_make_the_item_item_kernel_find_the_cosine_of_texts() -> None:
    rows = _counts(title=[[title] for title in TITLES], brand=[[brand] for brand in BRANDS])
    entries = [(token, item, tf) for item, row in enumerate(rows) for token, tf in row.items()]
    names = sorted({token for token, _, _ in entries})
    df = Counter(token for token, _, _ in entries)
    weights = tfidf_weights(
        np.array([tf for _, _, tf in entries]), np.array([df[token] for token, _, _ in entries]), len(TITLES) - 1
    )
    at, items = np.array([names.index(token) for token, _, _ in entries]), np.array([item for _, item, _ in entries])
    matrix = csr_of_pairs(at, items, weights, len(names), len(TITLES))
    found = [dict(row) for row in lists_of(neighbors_of(matrix, similarity_of("cosine")))]
    expected = _oracle()
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for row, right in zip(found, expected, strict=True):
        np.testing.assert_allclose([row[j] for j in right], list(right.values()), rtol=1e-6)  # float32 weights
