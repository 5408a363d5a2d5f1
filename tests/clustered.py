"""Clustered vectors like embeddings of real items, and queries near them, for tests and benchmarks of the ANN index.

A few clusters hold most items (sizes fall as a power of their rank), each cluster is long in some directions and short
in most (the spectrum decays), and the directions are no axes, so that no sub-quantizer has an easy time by chance.
"""

import numpy as np

_BLOCK_ROWS = 1 << 16
_SIZE_EXPONENT = 0.8  # of cluster sizes by rank: Zipf-like, without one cluster that holds nearly all
_SPECTRUM_EXPONENT = 0.8  # of variances by rank
_SPREAD = 0.8  # of a cluster, by the distance of its centre from the origin
_OWN_SHAPE = 0.7  # by how much, in log, a cluster's axes differ from the common ones
_QUERY_NOISE = 0.5  # by the length of the item that the query is near to


def clustered(n: int, d: int, seed: int, n_clusters: int | None = None) -> np.ndarray:
    """Unit vectors in clusters, float32 (n, d), neighbours in no order; about sqrt(n) clusters if not given."""
    rng = np.random.default_rng(seed)
    n_clusters = n_clusters or max(1, round(n**0.5))
    spectrum = _spectrum(d)
    rotation = _rotation(rng, d)
    centres = rng.standard_normal((n_clusters, d)) * spectrum
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    axes = np.exp(_OWN_SHAPE * rng.standard_normal((n_clusters, d))) * spectrum  # of each cluster
    axes *= _SPREAD / np.linalg.norm(axes, axis=1, keepdims=True)
    centres, axes = centres.astype(np.float32), axes.astype(np.float32)
    shares = np.arange(1, n_clusters + 1) ** -_SIZE_EXPONENT
    edges = np.cumsum(shares / shares.sum())
    vectors = np.empty((n, d), np.float32)
    for first in range(0, n, _BLOCK_ROWS):
        block = vectors[first : first + _BLOCK_ROWS]
        owners = np.minimum(np.searchsorted(edges, rng.random(len(block))), n_clusters - 1)  # (b,)
        noise = rng.standard_normal(block.shape, np.float32) * axes[owners]
        np.dot(centres[owners] + noise, rotation, out=block)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def clustered_queries(vectors: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Unit vectors near rows of `vectors` drawn at random, float32 (n, d), off as items differ."""
    rng = np.random.default_rng(seed)
    near, others, far = (vectors[rng.integers(0, len(vectors), n)] for _ in range(3))  # (n, d)
    queries = near + np.float32(_QUERY_NOISE) * (others - far)
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    return np.asarray(queries / lengths, np.float32)


def _spectrum(d: int) -> np.ndarray:
    """Standard deviation along each direction, (d,)."""
    return np.asarray(np.arange(1, d + 1) ** (-_SPECTRUM_EXPONENT / 2))


def _rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
