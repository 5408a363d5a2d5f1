"""A shard that is opened is the one that the manifest names, or it is refused by its number."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_spark.ann.kernels.faiss_index import search
from recsys_spark.ann.shard_files import open_shard
from recsys_spark.errors import DamagedError
from tests.index_files import make_shards, unit_vectors

VECTORS = unit_vectors(300, 8)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return make_shards(tmp_path, VECTORS)


@pytest.mark.parametrize("mapped", [False, True])
def test_open_shard_gives_index_ids_and_vectors(tmp_path: Path, rows: list[dict[str, Any]], mapped: bool) -> None:
    shard = open_shard(tmp_path, rows[1], mapped)
    assert shard.ids.tolist() == list(range(1, 300, 2))
    np.testing.assert_array_equal(shard.vectors, VECTORS[1::2])
    scores, ids = search(shard.index, VECTORS[[5]], 1, rows[1]["nprobe"])
    assert ids.tolist() == [[5]]
    np.testing.assert_allclose(scores, [[1.0]], atol=1e-6)  # float32


@pytest.mark.parametrize(
    "changes",
    [{"ntotal": 149}, {"d": 9}, {"nlist": 4}, {"min_item_idx": 0}, {"max_item_idx": 301}, {"metric": "l2"}],
    ids=lambda changes: next(iter(changes)),
)
def test_open_shard_refuses_a_manifest_of_another_index(
    tmp_path: Path, rows: list[dict[str, Any]], changes: dict[str, Any]
) -> None:
    with pytest.raises(DamagedError, match=r"^shard 1: expected .*the manifest is of another index"):
        open_shard(tmp_path, rows[1] | changes)


@pytest.mark.parametrize("name", ["rel_path", "vectors_rel_path"])
def test_open_shard_refuses_a_path_out_of_the_warehouse(tmp_path: Path, rows: list[dict[str, Any]], name: str) -> None:
    with pytest.raises(DamagedError, match=r"^shard 0: "):
        open_shard(tmp_path, rows[0] | {name: "../outside.faiss"})


def test_open_shard_refuses_the_vectors_of_another_shard(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    fewer = make_shards(tmp_path, VECTORS[:299])[1]
    swapped = {name: fewer[name] for name in ("vectors_rel_path", "vectors_n_bytes", "vectors_sha256")}
    with pytest.raises(DamagedError, match=r"^shard 1: expected vectors of 150 items"):
        open_shard(tmp_path, rows[1] | swapped)
