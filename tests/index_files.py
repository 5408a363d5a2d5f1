"""Shards of an index without Spark: what the step `ann` stores and writes into its manifest, for a few vectors."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from recsys_spark.ann.kernels.faiss_index import add, index_facts, load_index, train_index, write_index
from recsys_spark.ann.kernels.index_choice import choose_index
from recsys_spark.ann.shard_files import INDEX_SUFFIX, VECTORS_SUFFIX
from recsys_spark.warehouse.blobs import NewBlob

MODEL = "e" * 64


def unit_vectors(n: int, d: int, seed: int = 1) -> np.ndarray:
    """Vectors of length 1, float32 (n, d)."""
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_shards(
    root: Path, vectors: np.ndarray, n_shards: int = 2, factory: str = "IVF8,Flat", **changes: Any
) -> list[dict[str, Any]]:
    """Rows of `ann_shards`; item_idx i is row i of `vectors` and goes to shard i % n_shards; all lists are searched."""
    choice = choose_index(len(vectors), vectors.shape[1], 1 << 30, factory)
    trained = train_index(vectors, choice, seed=1, n_threads=1)
    rows = []
    for shard in range(n_shards):
        ids = np.arange(shard, len(vectors), n_shards)
        index = load_index(trained, len(trained))
        add(index, ids, vectors[ids])
        with NewBlob(root, INDEX_SUFFIX) as index_file, NewBlob(root, VECTORS_SUFFIX) as vectors_file:
            write_index(index, index_file.path)
            vectors_file.path.write_bytes(vectors[ids].tobytes())
            stored, stored_vectors = index_file.store(), vectors_file.store()
        facts = index_facts(index)
        row = {
            "shard": shard, "part": None, "n_shards": n_shards, "rel_path": stored.rel_path, "n_bytes": stored.n_bytes,
            "sha256": stored.sha256, "vectors_rel_path": stored_vectors.rel_path,
            "vectors_n_bytes": stored_vectors.n_bytes, "vectors_sha256": stored_vectors.sha256,
            "ntotal": facts.ntotal, "min_item_idx": int(ids[0]), "max_item_idx": int(ids[-1]), "d": facts.d,
            "metric": facts.metric, "factory": choice.factory, "nlist": facts.nlist, "m": facts.M, "nbits": facts.nbits,
            "nprobe": facts.nlist, "rerank": 4, "recall_at_100": 1.0, "faiss_version": faiss.__version__,
            "model_version": MODEL,
        }  # fmt: skip
        rows.append(row | changes)
    return rows
