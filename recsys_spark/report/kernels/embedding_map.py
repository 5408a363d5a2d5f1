"""Diagnostics of item embeddings: principal components, a t-SNE map, folding, and norms by popularity.

Owns: the measures behind a report on embeddings, which is to come; until then only its tests call it.
Letters: n items, d length of a vector, c components, s sampled items, g groups, m items looked at, p pairs of groups.
"""

from typing import NamedTuple

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.numeric.sparse import Csr
from recsys_spark.numeric.top_k import normalized, search_items, top_k

_MAX_PERPLEXITY = 30.0  # scikit-learn's default
# Fewer give a perplexity below 1, which is less than one neighbour each.
_MIN_MAPPED = 4
_N_DECILES = 10
# Norms that differ less, relative to the longest, are those of unit vectors: their order comes from rounding.
_SAME_NORM = 1e-6
_BLOCK_ITEMS = 16_384  # whose neighbours are listed at once: 6 MiB of them at k = 50
_BLOCK_BYTES = 64 << 20


class PrincipalComponents(NamedTuple):
    """projected: float32 (n, c), centred.  explained: float64 (c,), each one's share of the total variance, 0 to 1."""

    projected: np.ndarray
    explained: np.ndarray


class TsneMap(NamedTuple):
    """item_idx: int32 (s,), ascending.  positions: float32 (s, 2), of these items."""

    item_idx: np.ndarray
    positions: np.ndarray


class GroupPairs(NamedTuple):
    """Pairs of groups that share no user, the most neighbours above chance first, ties by the smaller groups.

    groups: int32 (p, 2), the smaller first.  n_neighbors: int64 (p,), how often an item of the one is among the nearest
    of an item of the other.  n_expected: float64 (p,), the same by chance.  cosines: float64 (p,), of the centroids.
    """

    groups: np.ndarray
    n_neighbors: np.ndarray
    n_expected: np.ndarray
    cosines: np.ndarray


class Folding(NamedTuple):
    """How near to each other the groups lie that share no user.

    share: of all nearest neighbours, those in a group that shares no user with the item's own, 0 to 1.  expected: the
    same if neighbours were drawn at random.  unrelated_cosine, related_cosine: mean cosine between the centroids of two
    groups without and with a common user, NaN if there are no such two.  worst: the pairs that add most to `share`.
    """

    share: float
    expected: float
    unrelated_cosine: float
    related_cosine: float
    worst: GroupPairs


class NormByPopularity(NamedTuple):
    """spearman: of norm and users, -1 to 1, NaN if either is the same for all items.

    mean_norms: float64 (10,), by decile of popularity, the least popular first, NaN where a decile is empty.
    n_items: int64 (10,), of each decile.
    """

    spearman: float
    mean_norms: np.ndarray
    n_items: np.ndarray


def principal_components(vectors: np.ndarray, n_components: int) -> PrincipalComponents:
    """The vectors in the directions of most variance, most first, and how much of it each explains.

    vectors: float32 (n, d).  The largest loading of a component, by absolute value, is positive, the first one of
    several.  Vectors that are all the same explain 0.
    Raises KernelError if a vector is not finite or there are not that many components.
    """
    _check_finite("principal_components", vectors)
    most = min(vectors.shape)
    if not 1 <= n_components <= most:
        raise KernelError(
            f"principal_components n_components: expected 1 to {most} for {vectors.shape[0]} vectors of length "
            f"{vectors.shape[1]}, got {n_components}; ask for fewer"
        )
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)  # (n, d), float64
    eigenvalues, basis = np.linalg.eigh(centred.T @ centred)  # (d,), ascending, and (d, d)
    loadings = basis[:, ::-1][:, :n_components]  # (d, c)
    largest = np.abs(loadings).argmax(axis=0)
    loadings = loadings * np.where(loadings[largest, np.arange(n_components)] < 0, -1.0, 1.0)
    variances = np.maximum(eigenvalues[::-1], 0.0)
    explained = variances[:n_components] / (variances.sum() or 1.0)
    return PrincipalComponents((centred @ loadings).astype(np.float32), explained)


def tsne_map(vectors: np.ndarray, seed: int, max_items: int = 2000) -> TsneMap:
    """A map in 2 dimensions of at most `max_items` items, drawn at random: near items stay near.

    vectors: float32 (n, d); give unit vectors for a map by cosine.  Distances between clusters, their sizes and the
    axes say nothing.  Starts from the first two principal components.  2 000 items of d = 64 took 13 s.
    Raises KernelError if a vector is not finite, or there is too little to map.  Source: van der Maaten, Hinton 2008.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    _check_finite("tsne_map", vectors)
    rng = np.random.default_rng(seed)
    n_sampled = min(len(vectors), max_items)
    item_idx = np.sort(rng.choice(len(vectors), n_sampled, replace=False)).astype(np.int32)
    sample = vectors[item_idx]  # (s, d)
    if n_sampled < _MIN_MAPPED or sample.shape[1] < 2 or (sample == sample[0]).all():
        raise KernelError(
            f"tsne_map: expected at least {_MIN_MAPPED} items, at least 2 dimensions and vectors that differ, got "
            f"{n_sampled} items of {sample.shape[1]} dimensions; map more items, or look at the step that made them"
        )
    perplexity = min(_MAX_PERPLEXITY, (n_sampled - 1) / 3)
    tsne = TSNE(init="pca", perplexity=perplexity, random_state=int(rng.integers(1 << 32)))
    # Its threads wait for each other by spinning: 600 items took 4 s with one and 45 s with two on two busy cores.
    with threadpool_limits(1):
        return TsneMap(item_idx, np.asarray(tsne.fit_transform(sample), np.float32))


def folding(vectors: np.ndarray, groups: np.ndarray, co_users: np.ndarray, k: int, n_worst: int = 20) -> Folding:
    """Whether groups of items that have no user in common overlap, by the k nearest of every item.

    A loss that never compares such groups may put both in one place: each is in order by itself, and users of one are
    recommended items of the other.

    vectors: float32 (n, d), of any length; nearest is by cosine, exact, and an item is not its own neighbour.  groups:
    int32 (n,), below 0 for none.  co_users: (g, g), users of both groups, symmetric; the diagonal is not read.  Items
    without a group and of length 0 are left out; so should be those of groups without any user, which share none.
    Memory is for one block of items and for a few matrices (g, g).
    Raises KernelError if a vector is not finite, a group or co_users does not fit, or there are no neighbours.
    Source: Xin et al. 2017, Folding: why good models sometimes make spurious recommendations.
    """
    _check_finite("folding", vectors)
    _check_groups(len(vectors), groups, co_users, k)
    unit = normalized(vectors)
    kept = np.flatnonzero((groups >= 0) & unit.any(axis=1))
    unit, groups = unit[kept], groups[kept]  # (m, d), (m,)
    if len(kept) < 2:
        raise KernelError(
            f"folding: expected at least 2 items with a group and a vector, got {len(kept)}; give more items a group"
        )
    k = min(k, len(kept) - 1)
    counts = _neighbor_counts(unit, groups, len(co_users), k)
    cosines = _centroid_cosines(unit, groups, len(co_users))
    sizes = np.bincount(groups, minlength=len(co_users))
    both = np.triu(np.outer(sizes > 0, sizes > 0), 1)  # every pair once
    pairs = _pairs(both & (co_users == 0), counts, np.outer(sizes, sizes) * (k / (len(kept) - 1)), cosines)
    return Folding(
        float(pairs.n_neighbors.sum() / (k * len(kept))),
        float(pairs.n_expected.sum() / (k * len(kept))),
        _mean(pairs.cosines),
        _mean(cosines[both & (co_users != 0)]),
        GroupPairs(*(field[:n_worst] for field in pairs)),
    )


def norm_by_popularity(vectors: np.ndarray, n_users: np.ndarray) -> NormByPopularity:
    """Whether popular items have longer vectors, and so score higher by dot product whoever asks.

    vectors: float32 (n, d).  n_users: (n,), of each item.  Items with as many users have the same, average, place and
    so the same decile, whatever their order.
    Raises KernelError if a vector is not finite, or the two do not pair up.
    """
    _check_finite("norm_by_popularity", vectors)
    if n_users.shape != (len(vectors),):
        raise KernelError(
            f"norm_by_popularity n_users: expected one number for each of {len(vectors)} items, got shape "
            f"{n_users.shape}; build both from the same items"
        )
    norms = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))  # (n,)
    places = _average_ranks(n_users)
    deciles = ((places - 0.5) * _N_DECILES / len(places)).astype(np.int64)
    n_items = np.bincount(deciles, minlength=_N_DECILES)
    sums = np.bincount(deciles, norms, _N_DECILES)
    mean_norms = np.divide(sums, n_items, out=np.full(_N_DECILES, np.nan), where=n_items > 0)
    differ = len(norms) > 0 and np.ptp(norms) > _SAME_NORM * norms.max() and np.ptp(n_users) > 0
    spearman = float(np.corrcoef(_average_ranks(norms), places)[0, 1]) if differ else float("nan")
    return NormByPopularity(spearman, mean_norms, n_items)


def _check_finite(place: str, vectors: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise KernelError(
            f"{place} vectors: expected finite ones, got {len(wrong)} others, the first at idx {wrong[0]}; correct the "
            "step that made them"
        )


def _check_groups(n_items: int, groups: np.ndarray, co_users: np.ndarray, k: int) -> None:
    """Refuses what does not fit together, all faults at once."""
    faults = []
    if groups.shape != (n_items,):
        faults.append(f"groups of shape {groups.shape} for {n_items} items")
    if co_users.ndim != 2 or not np.array_equal(co_users, co_users.T):
        faults.append(f"co_users of shape {co_users.shape} that is not symmetric")
    elif groups.max(initial=-1) >= len(co_users):
        faults.append(f"a group {groups.max()} and co_users of {len(co_users)} groups")
    if k < 1:
        faults.append(f"k = {k}")
    if faults:
        raise KernelError(
            "folding: expected one group for each item, a symmetric co_users that has them all and k of at least 1, "
            f"got {', '.join(faults)}; build groups and co_users from the same items"
        )


def _neighbor_counts(unit: np.ndarray, groups: np.ndarray, n_groups: int, k: int) -> np.ndarray:
    """How many of the k nearest of the items of a group, its row, are of each group, int64 (g, g)."""
    items = search_items(unit, None)
    counts = np.zeros((n_groups, n_groups), np.int64)
    for start in range(0, len(unit), _BLOCK_ITEMS):
        queries = np.arange(start, min(start + _BLOCK_ITEMS, len(unit)), dtype=np.int32)
        itself = Csr(np.arange(len(queries) + 1), queries, np.empty(0, np.float32), len(unit))
        found = top_k(unit[queries], items, k, itself, _BLOCK_BYTES)
        owners = np.repeat(queries, np.diff(found.indptr))
        np.add.at(counts, (groups[owners], groups[found.indices]), 1)
    return counts


def _pairs(chosen: np.ndarray, counts: np.ndarray, by_chance: np.ndarray, cosines: np.ndarray) -> GroupPairs:
    """The pairs where `chosen`, bool (g, g), in their order; counts, by_chance: neighbours of a row in a column."""
    first, second = np.nonzero(chosen)  # (p,)
    n_neighbors = counts[first, second] + counts[second, first]
    n_expected = 2 * by_chance[first, second]
    order = np.argsort(n_expected - n_neighbors, kind="stable")
    groups = np.stack([first, second], axis=1).astype(np.int32)
    return GroupPairs(groups[order], n_neighbors[order], n_expected[order], cosines[first, second][order])


def _centroid_cosines(unit: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Cosine between the mean unit vectors of groups, float64 (g, g); 0 with one that has no items."""
    sums = np.zeros((n_groups, unit.shape[1]))
    np.add.at(sums, groups, unit)
    norms = np.sqrt(np.square(sums).sum(axis=1, keepdims=True))
    directions = sums / np.where(norms > 0, norms, 1.0)
    cosines: np.ndarray = directions @ directions.T
    return cosines


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _average_ranks(values: np.ndarray) -> np.ndarray:
    """Place of every value in ascending order, from 1, float64 (n,); equal ones have the mean of their places."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
