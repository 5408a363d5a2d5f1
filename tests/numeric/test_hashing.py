"""Text becomes buckets by one hash that never changes, with the weights that are promised."""

from math import sqrt

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.numeric.hashing import (
    MAX_WORDS,
    Bag,
    category_bag,
    hashed,
    hashed_ids,
    joined,
    shares_bag,
    values_bag,
    words_bag,
)

M = 2**31  # so many buckets that no two of the few values here meet
SHARES = pa.list_(pa.struct([("category", pa.string()), ("share", pa.float32())]))
MANY = 500  # repetitions that make a column long enough for a dictionary


def _per_row(bag: Bag) -> list[list[tuple[int, float]]]:
    ends = np.cumsum(bag.lengths)
    entries = list(zip(bag.buckets.tolist(), bag.weights.tolist(), strict=True))
    return [entries[end - length : end] for end, length in zip(ends, bag.lengths, strict=True)]


def _buckets(name: str, *texts: str) -> list[int]:
    return hashed(name, texts, M).tolist()


def test_hashed_never_changes() -> None:
    """A published model finds the rows of its table by this hash alone.

    The figures: printf 'category\\x1fshoes' | b2sum -l 64, its bytes as a little-endian number, modulo.
    """
    texts = ["shoes", "", "été", "茶"]
    assert hashed("category", texts, 2**31).tolist() == [76788665, 995276579, 1981801047, 1131171413]
    assert hashed("category", texts, 1_000_003).tolist() == [517373, 664439, 522051, 275924]


def test_hashed_depends_on_the_field() -> None:
    assert hashed("brand", ["red"], M) != hashed("color", ["red"], M)


@pytest.mark.parametrize("n_buckets", [2**17, 2**20, 100_000, 1_000_003])
@pytest.mark.parametrize("form", ["{}", "item-{:08d}", "{:x}0"])
def test_hashed_meets_as_often_as_by_chance(form: str, n_buckets: int) -> None:
    n = 100_000
    expected = n_buckets * (1 - (1 - 1 / n_buckets) ** n)
    found = len(set(hashed("item_id", [form.format(i) for i in range(n)], n_buckets).tolist()))
    # The variance of the buckets that are met is below the number of collisions.
    assert abs(found - expected) < 5 * sqrt(n - expected)


@pytest.mark.parametrize("times", [1, MANY])
def test_hashed_ids_strips_the_id_of_every_row(times: int) -> None:
    u1, u2 = _buckets("item_id", "u1", "u2")
    assert hashed_ids("item_id", pa.array(["u1", "u2", " u1 "] * times), M).tolist() == [u1, u2, u1] * times


@pytest.mark.parametrize("times", [1, MANY])
def test_hashed_ids_of_rows_without_one_are_none(times: int) -> None:
    found = hashed_ids("item_id", pa.array(["u1", None, " "] * times), M)
    assert found.tolist() == [*_buckets("item_id", "u1"), -1, -1] * times
    assert found.dtype == np.int32


@pytest.mark.parametrize("times", [1, MANY])
def test_category_bag_strips_and_skips_what_is_blank(times: int) -> None:
    bag = category_bag("brand", pa.array([" Acme\t", None, "", "acme", " \n", "Acme"] * times), M)
    acme, lower = _buckets("brand", "Acme", "acme")
    assert _per_row(bag) == [[(acme, 1.0)], [], [], [(lower, 1.0)], [], [(acme, 1.0)]] * times


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Red RED red mug", ["red", "mug"]),
        ("Straße  STRASSE", ["strasse"]),
        ("ﬁne ｗｉｄｅ", ["fine", "wide"]),  # a ligature and full-width letters: NFKC
        ("child's t-shirt, size 7", ["child", "shirt", "size", "7"]),
        ("_ __ a_b", ["__", "a_b"]),
        ("茶 é x", ["茶", "é"]),
        ("!!! ... ☃", []),
        ("  ", []),
    ],
)
def test_words_bag_holds_the_different_words_of_a_title(title: str, words: list[str]) -> None:
    expected = [(bucket, np.float32(1 / sqrt(len(words)))) for bucket in _buckets("title", *words)]
    assert _per_row(words_bag("title", pa.array([None, title]), M)) == [[], expected]


@pytest.mark.parametrize("times", [1, MANY])
def test_words_bag_keeps_each_title_apart_when_words_are_shared(times: int) -> None:
    red, mug, tea = _buckets("title", "red", "mug", "tea")
    half = np.float32(1 / sqrt(2))
    bag = words_bag("title", pa.array(["red mug", "tea", None, "mug tea", "red mug"] * times), M)
    rows = [[(red, half), (mug, half)], [(tea, 1.0)], [], [(mug, half), (tea, half)], [(red, half), (mug, half)]]
    assert _per_row(bag) == rows * times


def test_words_bag_holds_the_first_words_of_a_long_title() -> None:
    words = [f"w{i}" for i in range(MAX_WORDS + 1)]
    [row] = _per_row(words_bag("title", pa.array([" ".join(["w0", *words])]), M))
    assert row == [(bucket, np.float32(1 / sqrt(MAX_WORDS))) for bucket in _buckets("title", *words[:MAX_WORDS])]


@pytest.mark.parametrize("times", [1, MANY])
def test_values_bag_holds_the_different_values_of_a_list_in_its_order(times: int) -> None:
    lists = [["b", "a", " b ", "b", None, ""], None, [], ["a"], ["c d", "b"]]
    a, b, cd = _buckets("tags", "a", "b", "c d")
    half = np.float32(1 / sqrt(2))
    bag = values_bag("tags", pa.array(lists * times, pa.list_(pa.string())), M)
    assert _per_row(bag) == [[(b, half), (a, half)], [], [], [(a, 1.0)], [(cd, half), (b, half)]] * times


def test_shares_bag_weighs_by_share_and_skips_entries_without_both() -> None:
    entries = [("toys", 0.75), ("mugs", 0.25), (None, 0.5), ("cups", None), ("pots", float("nan")), (" ", 1.0)]
    lists = [[{"category": category, "share": share} for category, share in entries], None, [], [None]]
    bag = shares_bag("affinities", pa.array(lists, SHARES), M)
    toys, mugs = _buckets("affinities", "toys", "mugs")
    assert _per_row(bag) == [[(toys, 0.75), (mugs, 0.25)], [], [], []]


def test_joined_puts_the_bags_of_a_row_behind_each_other() -> None:
    first = Bag(np.array([1, 0, 2]), np.array([10, 11, 12], np.int32), np.array([1, 2, 3], np.float32))
    second = Bag(np.array([2, 0, 1]), np.array([20, 21, 22], np.int32), np.array([4, 5, 6], np.float32))
    indptr, buckets, weights = joined([first, second], 3)
    assert indptr.tolist() == [0, 3, 3, 6]
    assert buckets.tolist() == [10, 20, 21, 11, 12, 22]
    assert weights.tolist() == [1, 4, 5, 2, 3, 6]


def test_joined_gives_empty_rows_when_no_field_is_hashed() -> None:
    indptr, buckets, weights = joined([], 2)
    assert (indptr.tolist(), len(buckets), len(weights)) == ([0, 0, 0], 0, 0)
