"""The index against exact search: what it holds, what it finds, its bytes, odd inputs and broken files."""

import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_spark.ann.kernels.faiss_index import (
    NO_ID,
    IndexFacts,
    add,
    augment,
    index_facts,
    load_index,
    map_index,
    pack_index,
    padded,
    search,
    stored_ids,
    train_index,
    write_index,
)
from recsys_spark.ann.kernels.index_choice import IndexChoice, bytes_per_vector, choose_index
from recsys_spark.errors import DamagedError, KernelError
from tests.clustered import clustered, clustered_queries

ROOMY = 1 << 30
N, D = 1000, 16
FORMS = [
    "Flat",
    "HNSW16",
    "IVF32,Flat",
    "IVF32_HNSW8,Flat",
    "PQ8x5",
    "IVF32,PQ8x5",
    "OPQ4_12,PQ4x4",
    "OPQ2,IVF32_HNSW8,PQ8x4",
]
# What training a rotation costs is for the few tests about it.
UNROTATED = [form for form in FORMS if "OPQ" not in form]


@cache
def vectors_of(n: int = N) -> np.ndarray:
    return clustered(n, D, 1, 20)


def ids_of(n: int) -> np.ndarray:
    """Beyond 32 bits, in no order."""
    return (np.arange(n)[::-1] * 7 + (1 << 40)).astype(np.int64)


def train(form: str, vectors: np.ndarray, seed: int = 3, n_threads: int = 1) -> bytes:
    return train_index(vectors, choose_index(*vectors.shape, ROOMY, form), seed, n_threads)


@cache
def trained(form: str) -> bytes:
    return train(form, vectors_of())


def filled(form: str, vectors: np.ndarray | None = None) -> Any:
    data = trained(form) if vectors is None else train(form, vectors)
    vectors = vectors_of() if vectors is None else vectors
    index = load_index(data, ROOMY)
    add(index, ids_of(len(vectors)), vectors)
    return index


def exact(queries: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k best, (n, k)."""
    return np.argsort(-(queries.astype(float) @ vectors.astype(float).T), axis=1, kind="stable")[:, :k]


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.mean([np.isin(wanted, row).mean() for wanted, row in zip(expected, found, strict=True)]))


@pytest.mark.parametrize("form", FORMS)
def test_an_index_comes_back_from_bytes_and_file_as_it_was(form: str, tmp_path: Path) -> None:
    index, queries = filled(form), clustered_queries(vectors_of(), 30, 2)
    write_index(index, tmp_path / "index")
    data = pack_index(index)
    assert (tmp_path / "index").read_bytes() == data
    scores, ids = search(index, queries, 10, 8)
    for other in (load_index(data, ROOMY), map_index(tmp_path / "index")):
        assert stored_ids(other).tolist() == sorted(ids_of(N))
        assert index_facts(other) == index_facts(index)
        for nprobe_before in (1, 8):  # a search leaves nothing behind
            search(other, queries, 5, nprobe_before)
            again = search(other, queries, 10, 8)
            np.testing.assert_array_equal(again[0], scores)
            np.testing.assert_array_equal(again[1], ids)


@pytest.mark.parametrize("form", FORMS)
def test_train_index_gives_the_same_bytes_whatever_the_threads(form: str) -> None:
    data = trained(form)
    assert train(form, vectors_of(), n_threads=2) == data
    first, second = load_index(data, ROOMY), load_index(data, ROOMY)
    for index in (first, second):
        add(index, ids_of(N), vectors_of())
    assert pack_index(first) == pack_index(second)


@pytest.mark.parametrize("form", ["IVF32,Flat", "PQ8x5", "OPQ4_12,PQ4x4"])
def test_train_index_follows_its_seed(form: str) -> None:
    assert train(form, vectors_of(), seed=4) != trained(form)


# A graph takes each batch level by level.
@pytest.mark.parametrize("form", [form for form in UNROTATED if not form.startswith("HNSW")])
def test_add_in_parts_gives_the_bytes_of_add_at_once(form: str) -> None:
    index = load_index(trained(form), ROOMY)
    for first in range(0, N, 400):
        add(index, ids_of(N)[first : first + 400], vectors_of()[first : first + 400])
    assert pack_index(index) == pack_index(filled(form))


@pytest.mark.parametrize(
    ("form", "facts"),
    [
        ("HNSW16", IndexFacts(N, D, "inner_product", 1, 0, 0)),
        ("PQ8x5", IndexFacts(N, D, "inner_product", 1, 8, 5)),
        ("IVF32,Flat", IndexFacts(N, D, "inner_product", 32, 0, 0)),
        ("OPQ4_12,PQ4x4", IndexFacts(N, D, "inner_product", 1, 4, 4)),
    ],
)
def test_index_facts_say_what_was_chosen(form: str, facts: IndexFacts) -> None:
    assert index_facts(filled(form)) == facts


@pytest.mark.parametrize("form", UNROTATED)
def test_an_index_takes_what_bytes_per_vector_says(form: str) -> None:
    index = filled(form)
    taken = (len(pack_index(index)) - len(trained(form))) / N
    # A list has its length besides; levels of a graph are drawn.
    assert taken == pytest.approx(bytes_per_vector(choose_index(N, D, ROOMY, form), D), rel=0.05, abs=0.3)


@pytest.mark.parametrize("form", ["Flat", "IVF32,Flat", "IVF32_HNSW8,Flat"])
def test_search_of_all_lists_is_exact(form: str) -> None:
    vectors, queries = vectors_of(), clustered_queries(vectors_of(), 40, 2)
    scores, ids = search(filled(form), queries, 10, 32)
    places = exact(queries, vectors, 10)
    np.testing.assert_array_equal(ids, ids_of(N)[places])
    # float32 sums of 16 products up to 1
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, places, 1), atol=1e-5)


@pytest.mark.parametrize("form", UNROTATED)
@pytest.mark.parametrize("kind", ["uniform", "clustered"])
def test_search_finds_more_in_more_lists(form: str, kind: str) -> None:
    noise = np.random.default_rng(5).standard_normal((N, D))
    uniform = (noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)
    vectors = uniform if kind == "uniform" else vectors_of()
    queries = clustered_queries(vectors, 60, 2)
    index, expected = filled(form, vectors), ids_of(N)[exact(queries, vectors, 10)]
    recalls = [recall(search(index, queries, 80, nprobe)[1], expected) for nprobe in (1, 4, 32)]
    assert recalls == sorted(recalls)
    assert recalls[-1] >= (0.8 if "PQ" in form else 0.98)  # codes of 40 bits lose some; 0.88 and more were measured


def test_search_of_a_graph_looks_at_more_than_it_gives() -> None:
    queries = clustered_queries(vectors_of(), 60, 2)
    found = search(filled("HNSW16"), queries, 1, 8)[1]
    assert recall(found, ids_of(N)[exact(queries, vectors_of(), 1)]) >= 0.95  # 1.0; 0.75 if it looks at one


def test_search_fills_up_with_no_id() -> None:
    index = filled("IVF32,Flat")
    scores, ids = search(index, vectors_of()[:1], N + 5, 32)
    assert (ids[0, N:] == NO_ID).all()
    assert (scores[0, N:] == -np.inf).all()
    assert (np.diff(scores[0, :N]) <= 0).all()
    assert sorted(ids[0, :N]) == sorted(ids_of(N))


@pytest.mark.parametrize("form", UNROTATED)
def test_search_of_nothing_gives_nothing(form: str) -> None:
    index = load_index(trained(form), ROOMY)
    scores, ids = search(index, vectors_of()[:2], 3, 4)
    assert ids.tolist() == [[NO_ID] * 3] * 2
    assert scores.tolist() == [[-np.inf] * 3] * 2
    assert stored_ids(index).tolist() == []
    assert search(filled(form), np.empty((0, D), np.float32), 3, 4)[1].shape == (0, 3)


def test_search_may_be_shared_by_threads_that_probe_differently() -> None:
    index, queries = filled("IVF32,PQ8x5"), clustered_queries(vectors_of(), 40, 2)
    alone = {nprobe: search(index, queries, 10, nprobe)[1].tolist() for nprobe in (1, 2, 16)}
    wrong: list[int] = []

    def work(nprobe: int) -> None:
        if any(search(index, queries, 10, nprobe)[1].tolist() != alone[nprobe] for _ in range(20)):
            wrong.append(nprobe)

    threads = [threading.Thread(target=work, args=(nprobe,)) for nprobe in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alone[1] != alone[16]
    assert wrong == []


@pytest.mark.parametrize("n", [1, 2, 31, 255, 999, 1000, 1300])
@pytest.mark.parametrize("d", [1, 7, 16])
def test_the_chosen_index_works_for_few_vectors(n: int, d: int) -> None:
    vectors = clustered(n, d, 6)
    choice = choose_index(n, d, 1)
    index = load_index(train_index(vectors[: max(1, choice.n_train)], choice, 1, 1), ROOMY)
    add(index, np.arange(n), vectors)
    ids = search(index, vectors[:5], n, choice.nlist)[1]
    assert [sorted(row) for row in ids] == [list(range(n))] * len(ids)


@pytest.mark.parametrize("form", UNROTATED)
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_an_index_of_duplicates_works(form: str, value: float) -> None:
    index = filled(form, np.full((200, D), value, np.float32))  # unit vectors, or nothing at all
    ids = search(index, np.full((1, D), 0.25, np.float32), 5, 32)[1]
    assert np.isin(ids, ids_of(200)).all()
    assert stored_ids(index).tolist() == sorted(ids_of(200))


@pytest.mark.parametrize(
    ("factory", "n", "said"),
    [
        ("IVF32,Flat", 31, "Number of training points"),
        ("PQ8", 255, "Number of training points"),
        ("IVF4,PQ5", 300, "expected one that FAISS can train on 300 vectors of length 16"),
        ("Nonsense", 5, "could not parse"),
    ],
)
def test_train_index_refuses_what_faiss_cannot_train(factory: str, n: int, said: str) -> None:
    with pytest.raises(KernelError, match=said):
        train_index(vectors_of(n), IndexChoice(factory, 1, 0, 0, 0, ()), 1, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(value: float) -> None:
    bad, index = np.full((2, D), value, np.float32), load_index(trained("Flat"), ROOMY)
    with pytest.raises(KernelError, match=f"index add: expected finite vectors of length 16, .* {2 * D} numbers"):
        add(index, np.arange(2), bad)
    with pytest.raises(KernelError, match="index search: expected finite"):
        search(index, bad, 1, 1)
    with pytest.raises(KernelError, match="index training: expected finite"):
        train("Flat", bad)


@pytest.mark.parametrize("ids", [np.array([0, -1]), np.array([0]), np.array([0, 1], np.int32)])
def test_add_refuses_ids_that_are_none(ids: np.ndarray) -> None:
    with pytest.raises(KernelError, match="index add: expected 2 ids of int64 from 0"):
        add(load_index(trained("Flat"), ROOMY), ids, vectors_of(2))


def test_search_refuses_vectors_of_another_length_and_no_neighbours() -> None:
    index = filled("Flat")
    with pytest.raises(KernelError, match=r"expected finite vectors of length 16, got shape \(2, 15\)"):
        search(index, np.ones((2, 15), np.float32), 1, 1)
    for k, nprobe in ((0, 1), (1, 0)):
        with pytest.raises(KernelError, match="expected k and nprobe of at least 1"):
            search(index, vectors_of(2), k, nprobe)


@pytest.mark.parametrize("form", ["HNSW16", "IVF32,PQ8x5", "OPQ2,IVF32_HNSW8,PQ8x4"])
def test_an_index_that_is_cut_is_refused(form: str, tmp_path: Path) -> None:
    data, path = pack_index(filled(form)), tmp_path / "index"
    cuts = [0, 1, len(data) - 1, *np.random.default_rng(1).integers(2, len(data) - 1, 147).tolist()]
    for size in cuts:
        with pytest.raises(DamagedError, match="index: expected"):
            load_index(data[:size], ROOMY)
    for size in [size for size in cuts[:30] if size < len(data) - 8]:  # mapped, the last number may be cut: see there
        path.write_bytes(data[:size])
        with pytest.raises(DamagedError, match="expected one that loads"):
            map_index(path)


def test_garbage_is_refused() -> None:
    rng = np.random.default_rng(2)
    for size in (1, 4, 100, 10_000):
        with pytest.raises(DamagedError, match="expected one that loads"):
            load_index(rng.bytes(size), ROOMY)
    with pytest.raises(DamagedError, match="expected one that loads"):
        map_index(Path("/nowhere"))


def test_an_index_larger_than_allowed_is_refused() -> None:
    data = trained("Flat")
    load_index(data, len(data))
    with pytest.raises(DamagedError, match=f"expected 1 to {len(data) - 1} bytes, got {len(data)}"):
        load_index(data, len(data) - 1)


@pytest.mark.parametrize(
    ("form", "held", "limit"), [("IVF32,Flat", 32, "loop_limit"), ("Flat", N * D, "vector_byte_limit")]
)
@pytest.mark.parametrize("claimed", [1 << 28, 1 << 50])
def test_an_index_that_claims_more_than_is_in_it_meets_a_limit(form: str, held: int, limit: str, claimed: int) -> None:
    data, size = pack_index(filled(form)), held.to_bytes(8, "little")
    said = []
    for at in (at for at in range(len(data) - 8) if data[at : at + 8] == size):
        with pytest.raises(DamagedError, match="expected one that loads") as refused:
            load_index(data[:at] + claimed.to_bytes(8, "little") + data[at + 8 :], ROOMY)
        said.append(str(refused.value))
    assert any(limit in text for text in said)


def als_like() -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose lengths differ by 20 and more, and queries."""
    rng = np.random.default_rng(8)
    vectors = vectors_of() * rng.lognormal(0, 1, (N, 1)).astype(np.float32)
    return vectors, clustered_queries(vectors_of(), 60, 9) * np.float32(3)


def longest_of(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors.astype(float), axis=1).max())


def test_augment_keeps_the_order_of_the_inner_product() -> None:
    vectors, queries = als_like()
    units = augment(vectors, longest_of(vectors))
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, atol=1e-6)  # float32
    np.testing.assert_array_equal(exact(padded(queries), units, 20), exact(queries, vectors, 20))


def test_augment_says_what_the_paper_does() -> None:
    units = augment(np.array([[3, 0], [0, 0], [0, -5]], np.float32), 5)
    np.testing.assert_allclose(units[:, :3], [[3 / 5, 0, 4 / 5], [0, 0, 1], [0, -1, 0]], rtol=1e-6)
    assert units.shape == (3, 8)
    assert not units[:, 3:].any()
    assert padded(np.array([[2, 3]], np.float32)).tolist() == [[2, 3, 0, 0, 0, 0, 0, 0]]


def test_augmented_vectors_are_found_as_well_as_raw_ones() -> None:
    vectors, queries = als_like()
    expected = ids_of(N)[exact(queries, vectors, 10)]
    raw, augmented = filled("IVF32,Flat", vectors), filled("IVF32,Flat", augment(vectors, longest_of(vectors)))
    for nprobe in (2, 4, 8):
        of_raw = recall(search(raw, queries, 10, nprobe)[1], expected)
        of_augmented = recall(search(augmented, padded(queries), 10, nprobe)[1], expected)
        assert of_augmented >= of_raw - 0.05
    assert of_augmented > 0.9


@pytest.mark.parametrize("longest", [0.0, 4.9, float("nan")])
def test_augment_refuses_vectors_that_are_longer_than_the_longest(longest: float) -> None:
    with pytest.raises(KernelError, match="index augment: expected vectors up to a norm above 0"):
        augment(np.array([[3, 4]], np.float32), longest)
