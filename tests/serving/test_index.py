"""The index in a service: what it finds, whom it refuses, and the answers of several machines merged."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_spark.errors import ArgumentError, DamagedError
from recsys_spark.features.declared import declared_tables
from recsys_spark.plan import BUNDLE_TABLES
from recsys_spark.serving.answers import Scored, merge
from recsys_spark.serving.bundle import open_current, open_index
from recsys_spark.serving.index import AnnIndex
from recsys_spark.warehouse.ledger import create_tables
from tests.index_files import MODEL, make_shards, unit_vectors
from tests.made_warehouse import RUN_A, append_publish, make_rows, stage_rows

N, DIM = 300, 8
VECTORS = unit_vectors(N, DIM)
IDS = [f"item-{idx:03d}" for idx in range(N)]


def publish_index(root: Path, **changes: Any) -> None:
    """Publishes a bundle whose index holds VECTORS in two shards."""
    create_tables(root, [declared_tables()[name] for name in (*BUNDLE_TABLES, "run_steps", "publishes")])
    rows = make_rows(RUN_A, ["u1"], {})
    rows["item_index"] = [{"item_idx": idx, "item_id": one} for idx, one in enumerate(IDS)]
    rows["ann_shards"] = make_shards(root, VECTORS) if not changes else make_shards(root, VECTORS, **changes)
    stage_rows(root, RUN_A, rows)
    append_publish(root, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warehouse")
    publish_index(folder)
    return folder


def best_of(query: np.ndarray, k: int, idx: np.ndarray | None = None) -> list[tuple[str, float]]:
    """The best items by all products, of those in idx."""
    products = VECTORS.astype(np.float64) @ query
    order = sorted(range(N) if idx is None else idx.tolist(), key=lambda one: (-products[one], one))[:k]
    return [(IDS[one], products[one]) for one in order]


def check_found(found: tuple[Scored, ...], expected: list[tuple[str, float]]) -> None:
    assert [one.item_id for one in found] == [item_id for item_id, _ in expected]
    assert [one.rank for one in found] == list(range(1, len(expected) + 1))
    np.testing.assert_allclose([one.score for one in found], [score for _, score in expected], atol=1e-6)  # float32


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_search_finds_the_best_items(root: Path, mapped: bool, threads: int) -> None:
    index = open_index(open_current(root), mapped=mapped, threads=threads)
    assert (index.shards, index.n_items) == ((0, 1), N)
    for query in unit_vectors(5, DIM, seed=2):
        check_found(index.search(query, 20), best_of(query, 20))
    index.close()


def test_search_leaves_out_what_is_excluded(root: Path) -> None:
    index, query = open_index(open_current(root)), unit_vectors(1, DIM, seed=3)[0]
    seen = [item_id for item_id, _ in best_of(query, 15)]
    assert [one.item_id for one in index.search(query, 5, [*seen, "unknown"])] == [
        item_id for item_id, _ in best_of(query, 20)[15:]
    ]


def test_search_gives_all_there_is_when_more_is_asked_for(root: Path) -> None:
    query = unit_vectors(1, DIM, seed=4)[0]
    check_found(open_index(open_current(root)).search(query, N + 50), best_of(query, N))


def test_merge_of_machines_with_a_shard_each_is_the_search_of_one_with_all(root: Path) -> None:
    bundle, query = open_current(root), unit_vectors(1, DIM, seed=5)[0]
    answers = [open_index(bundle, shards=[shard]).search(query, 30) for shard in (1, 0)]
    check_found(answers[0], best_of(query, 30, np.arange(1, N, 2)))
    assert merge(answers, 30) == open_index(bundle).search(query, 30)


def test_merge_breaks_ties_by_the_bytes_of_the_item_id() -> None:
    answers = [[Scored("b", 1, 1.0), Scored("\u00e9", 2, 0.5)], [Scored("a", 1, 1.0), Scored("f", 2, 0.5)]]
    assert merge(answers, 3) == (Scored("a", 1, 1.0), Scored("b", 2, 1.0), Scored("f", 3, 0.5))
    assert merge([], 3) == ()


def test_related_are_the_nearest_without_the_item_itself(root: Path) -> None:
    index = open_index(open_current(root))
    check_found(index.related(IDS[7], 10), [one for one in best_of(VECTORS[7], 11) if one[0] != IDS[7]])
    assert index.related("unknown") == ()
    assert open_index(open_current(root), shards=[0]).related(IDS[7]) == ()  # it is in shard 1


@pytest.mark.parametrize(
    ("vector", "found"),
    [(np.ones(DIM + 1, np.float32), "float32 of shape"), (np.full(DIM, np.nan), "float64 of shape"),
     (np.array(["a"] * DIM), "<U1 of shape"), (np.ones((1, DIM)), "shape .1, 8.")],
)  # fmt: skip
def test_search_refuses_what_is_no_vector_of_the_model(root: Path, vector: np.ndarray, found: str) -> None:
    with pytest.raises(ArgumentError, match=f"search: expected a vector of 8 finite numbers, got .*{found}"):
        open_index(open_current(root)).search(vector)


def test_open_index_opens_the_shards_of_a_part(tmp_path: Path) -> None:
    publish_index(tmp_path, part="UK")
    bundle = open_current(tmp_path)
    assert open_index(bundle, part="UK").shards == (0, 1)
    assert open_index(bundle, part="UK", shards=[1]).shards == (1,)
    with pytest.raises(ArgumentError, match=r"expected one of the parts \['UK'\], got 'DE'"):
        open_index(bundle, part="DE")


@pytest.mark.parametrize("shards", [[2], [0, -1], []])
def test_open_index_refuses_a_shard_that_there_is_not(root: Path, shards: list[int]) -> None:
    with pytest.raises(ArgumentError, match="open_index: expected some of the shards 0 to 1"):
        open_index(open_current(root), shards=shards)


def test_open_index_of_a_run_without_one_says_what_to_do(tmp_path: Path) -> None:
    publish_index(tmp_path, n_shards=0)
    with pytest.raises(ArgumentError, match="put two_tower into"):
        open_index(open_current(tmp_path))


def test_open_index_refuses_shards_of_another_model(tmp_path: Path) -> None:
    publish_index(tmp_path, model_version="f" * 64)
    with pytest.raises(DamagedError, match=f"shard 0: expected an index of model {MODEL}, got one of {'f' * 64}"):
        open_index(open_current(tmp_path))


def test_open_index_refuses_items_that_the_bundle_does_not_have(tmp_path: Path) -> None:
    index_rows = make_shards(tmp_path, VECTORS)
    create_tables(tmp_path, [declared_tables()[name] for name in (*BUNDLE_TABLES, "run_steps", "publishes")])
    rows = make_rows(RUN_A, ["u1"], {}) | {"ann_shards": index_rows}  # 20 items
    stage_rows(tmp_path, RUN_A, rows)
    append_publish(tmp_path, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()})
    with pytest.raises(DamagedError, match="shard 0: expected items below 20, got 298"):
        open_index(open_current(tmp_path))


def test_index_needs_neither_torch_nor_spark_nor_a_compiler(root: Path) -> None:
    program = (
        "import sys; from recsys_spark.serving.bundle import open_current, open_index\n"
        f"index = open_index(open_current({str(root)!r}))\n"
        f"assert index.related({IDS[0]!r}, 3)\n"
        "print(sorted({'torch', 'pyspark', 'numba', 'faiss'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['faiss']"


def test_index_may_be_used_by_many_threads(root: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    index: AnnIndex = open_index(open_current(root))
    queries = unit_vectors(40, DIM, seed=6)
    alone = [index.search(query, 10) for query in queries]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda query: index.search(query, 10), queries)) == alone


def test_equal_items_of_two_shards_tie_by_item_id_whoever_is_found_with_them(tmp_path: Path) -> None:
    """A product of matrices may give equal rows other last bits."""
    vectors = np.repeat(unit_vectors(60, 64), 5, axis=0)
    create_tables(tmp_path, [declared_tables()[name] for name in (*BUNDLE_TABLES, "run_steps", "publishes")])
    rows = make_rows(RUN_A, ["u1"], {})
    rows["item_index"] = [{"item_idx": idx, "item_id": one} for idx, one in enumerate(IDS)]
    rows["ann_shards"] = make_shards(tmp_path, vectors, 2, "Flat", rerank=1)
    stage_rows(tmp_path, RUN_A, rows)
    append_publish(tmp_path, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()})
    bundle = open_current(tmp_path)
    for query in unit_vectors(5, 64, seed=3):
        for k in (7, 50, 300):
            found = open_index(bundle).search(query, k)
            ordered = sorted(found, key=lambda one: (-one.score, one.item_id))
            assert [one.item_id for one in found] == [one.item_id for one in ordered]
            assert len({one.score for one in found}) == -(-k // 5)
            answers = [open_index(bundle, shards=[shard]).search(query, k) for shard in (0, 1)]
            assert merge(answers, k) == found
