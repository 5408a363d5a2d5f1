"""What is measured of embeddings is what slow and foreign code measures, and folded groups are found."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

from recsys_spark.errors import KernelError
from recsys_spark.report.kernels import embedding_map
from recsys_spark.report.kernels.embedding_map import folding, norm_by_popularity, principal_components, tsne_map

N, D, G = 150, 6, 5
# Groups 0 to 4 in a row: each shares users with the next alone.
CO_USERS = np.eye(G, dtype=np.int64) * 9 + np.eye(G, k=1, dtype=np.int64) * 2 + np.eye(G, k=-1, dtype=np.int64) * 2


def _vectors(n: int = N, seed: int = 1) -> np.ndarray:
    """Spread differently in each direction, and not around 0."""
    return (np.random.default_rng(seed).normal(size=(n, D)) * np.arange(D, 0, -1) + 3).astype(np.float32)


def _groups(n: int = N) -> np.ndarray:
    """Of different sizes, and one item in ten without any."""
    return np.where(np.arange(n) % 10 == 9, -1, np.minimum(np.arange(n) % 8, G - 1)).astype(np.int32)


def _rotation(d: int = D) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(7).normal(size=(d, d)))[0]


def _slow_neighbors(vectors: np.ndarray, groups: np.ndarray, k: int) -> Counter[tuple[int, int]]:
    """How often an item of the first group has one of the second among its nearest, one item at a time."""
    kept = [i for i in range(len(vectors)) if groups[i] >= 0 and vectors[i].any()]
    unit = {i: vectors[i].astype(np.float64) / np.linalg.norm(vectors[i].astype(np.float64)) for i in kept}
    counts: Counter[tuple[int, int]] = Counter()
    for i in kept:
        others = sorted((j for j in kept if j != i), key=lambda j: (-(unit[i] @ unit[j]), j))
        counts.update((int(groups[i]), int(groups[j])) for j in others[:k])
    return counts


def _planted(angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Two groups of 40 items about directions that are `angle` apart, and one of 40 at right angles to both."""
    centres = np.array([[1, 0, 0], [np.cos(angle), np.sin(angle), 0], [0, 0, 1]])
    groups = np.arange(120, dtype=np.int32) % 3
    return (centres[groups] + np.random.default_rng(4).normal(0, 0.05, (120, 3))).astype(np.float32), groups


@pytest.mark.parametrize("n_components", [1, 3, D])
def test_principal_components_are_those_of_scikit_learn(n_components: int) -> None:
    vectors = _vectors()
    found = principal_components(vectors, n_components)
    oracle = PCA(n_components, svd_solver="full").fit(vectors.astype(np.float64))
    expected = oracle.transform(vectors.astype(np.float64))
    assert (found.projected.shape, found.projected.dtype) == ((N, n_components), np.float32)
    np.testing.assert_allclose(found.explained, oracle.explained_variance_ratio_, rtol=1e-9)
    # Up to the sign, which is tested below; float32 keeps 6 digits.
    signs = np.sign((found.projected * expected).sum(axis=0))
    np.testing.assert_allclose(found.projected, expected * signs, atol=1e-5)


def test_principal_components_have_the_eigenvalues_of_the_covariance_as_variances() -> None:
    found = principal_components(_vectors(), D)
    eigenvalues = np.linalg.eigvalsh(np.cov(_vectors().astype(np.float64).T))[::-1]
    covariance = np.cov(found.projected.astype(np.float64).T)
    np.testing.assert_allclose(covariance, np.diag(eigenvalues), atol=1e-5)  # float32 squared, of up to 36
    np.testing.assert_allclose(found.explained, eigenvalues / eigenvalues.sum(), rtol=1e-9)


def test_principal_components_point_to_where_their_largest_loading_is_positive() -> None:
    # One direction each, of which the largest entry is below 0 in the first and the last one in the second.
    steps = np.array([-1.0, 0.0, 1.0], np.float32)
    for direction, sign in (([1, -3, 2], -1), ([-1, 2, 3], 1), ([-5, 1, 1], -1)):
        found = principal_components(np.outer(steps, np.array(direction, np.float32)), 1)
        length = np.linalg.norm(direction)
        np.testing.assert_allclose(found.projected[:, 0], sign * length * steps, atol=1e-5)


def test_principal_components_explain_the_same_after_a_rotation_and_a_shift() -> None:
    vectors = _vectors()
    turned = (vectors @ _rotation() + 100).astype(np.float32)
    found, again = principal_components(vectors, D), principal_components(turned, D)
    np.testing.assert_allclose(found.explained, again.explained, rtol=1e-4)  # float32 at 100 keeps 5 decimals
    np.testing.assert_allclose(np.abs(found.projected), np.abs(again.projected), atol=1e-3)


def test_principal_components_of_the_same_vector_explain_nothing() -> None:
    found = principal_components(np.full((4, 3), 0.1, np.float32), 2)
    assert found.explained.tolist() == [0, 0]
    assert found.projected.tolist() == [[0, 0]] * 4


@pytest.mark.parametrize(("shape", "n_components"), [((3, 5), 4), ((5, 3), 4), ((5, 3), 0)])
def test_principal_components_refuses_a_number_that_there_is_not(shape: tuple[int, int], n_components: int) -> None:
    with pytest.raises(KernelError, match=f"n_components: expected 1 to 3 for .* got {n_components}; ask for fewer"):
        principal_components(np.ones(shape, np.float32), n_components)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize(
    "measure",
    [
        lambda vectors: principal_components(vectors, 2),
        lambda vectors: tsne_map(vectors, 1),
        lambda vectors: folding(vectors, _groups(), CO_USERS, 5),
        lambda vectors: norm_by_popularity(vectors, np.arange(N)),
    ],
    ids=["principal_components", "tsne_map", "folding", "norm_by_popularity"],
)
def test_measures_refuse_vectors_that_are_not_finite(measure: Callable[[np.ndarray], Any], wrong: float) -> None:
    vectors = _vectors()
    vectors[[7, 11], 2] = wrong
    with pytest.raises(KernelError, match="vectors: expected finite ones, got 2 others, the first at idx 7"):
        measure(vectors)


def test_tsne_map_keeps_clusters_together() -> None:
    centres = np.random.default_rng(2).normal(size=(3, D)) * 20
    cluster = np.arange(90) % 3
    found = tsne_map((centres[cluster] + np.random.default_rng(3).normal(size=(90, D))).astype(np.float32), 5)
    assert (found.positions.shape, found.positions.dtype) == ((90, 2), np.float32)
    distances = np.linalg.norm(found.positions[:, None] - found.positions[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (cluster[distances.argmin(axis=1)] == cluster).all()


def test_tsne_map_draws_items_once_each_by_its_seed() -> None:
    vectors = _vectors(400)
    vectors[:, 0] += np.arange(400) * 10  # a position says which item it is of
    found, again, other = (tsne_map(vectors, seed, max_items=40) for seed in (5, 5, 6))
    assert found.item_idx.dtype == np.int32
    assert len(found.item_idx) == 40
    assert (np.diff(found.item_idx) > 0).all()
    np.testing.assert_array_equal(found.item_idx, again.item_idx)
    np.testing.assert_array_equal(found.positions, again.positions)
    assert set(found.item_idx.tolist()) != set(other.item_idx.tolist())
    # The items lie on a line, and neighbours on it are near each other on the map.
    steps = np.linalg.norm(np.diff(found.positions, axis=0), axis=1)
    spread = np.linalg.norm(found.positions - found.positions.mean(axis=0), axis=1).mean()
    assert np.median(steps) < spread / 2


def test_tsne_map_gives_all_items_if_they_are_few() -> None:
    found = tsne_map(_vectors(4), 5)  # perplexity (4 - 1) / 3
    assert found.item_idx.tolist() == [0, 1, 2, 3]
    assert np.isfinite(found.positions).all()


@pytest.mark.parametrize(
    "vectors", [_vectors(3), _vectors(9)[:, :1], np.ones((9, 3), np.float32)], ids=["few", "one dimension", "the same"]
)
def test_tsne_map_refuses_what_has_no_map(vectors: np.ndarray) -> None:
    with pytest.raises(KernelError, match="at least 4 items, at least 2 dimensions and vectors that differ"):
        tsne_map(vectors, 5)


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("k", [1, 10, 1000])
def test_folding_counts_neighbors_as_a_slow_loop_does(k: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_map, "_BLOCK_ITEMS", block)
    vectors, groups = _vectors(), _groups()
    vectors[[3, 40]] = 0
    found = folding(vectors, groups, CO_USERS, k, n_worst=100)
    counts = _slow_neighbors(vectors, groups, k)
    kept = groups[(groups >= 0) & vectors.any(axis=1)]
    unrelated = [(a, b) for a in range(G) for b in range(a + 1, G) if CO_USERS[a, b] == 0]
    assert sorted(map(tuple, found.worst.groups.tolist())) == unrelated
    by_pair = dict(zip(map(tuple, found.worst.groups.tolist()), found.worst.n_neighbors.tolist(), strict=True))
    assert by_pair == {(a, b): counts[a, b] + counts[b, a] for a, b in unrelated}
    assert found.share == pytest.approx(sum(by_pair.values()) / counts.total(), rel=1e-12)
    # A random neighbour is any other item: all ordered pairs of items, one by one.
    pairs = [(a, b) for i, a in enumerate(kept) for j, b in enumerate(kept) if i != j]
    chance = sum(a != b and CO_USERS[a, b] == 0 for a, b in pairs) / len(pairs)
    assert found.expected == pytest.approx(chance, rel=1e-12)


def test_folding_finds_as_much_as_by_chance_if_all_items_are_neighbors() -> None:
    found = folding(_vectors(), _groups(), CO_USERS, N, n_worst=100)
    assert found.share == pytest.approx(found.expected, rel=1e-12)
    np.testing.assert_allclose(found.worst.n_neighbors, found.worst.n_expected, rtol=1e-12)


def test_folding_gives_the_cosines_between_centroids_of_units() -> None:
    vectors, groups = _vectors(), _groups()
    found = folding(vectors, groups, CO_USERS, 5, n_worst=100)
    units = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    centroids = [units[groups == group].mean(axis=0) for group in range(G)]

    def cosine(a: int, b: int) -> float:
        return float(centroids[a] @ centroids[b] / np.linalg.norm(centroids[a]) / np.linalg.norm(centroids[b]))

    # Units are float32.
    np.testing.assert_allclose(found.worst.cosines, [cosine(a, b) for a, b in found.worst.groups], rtol=1e-5)
    assert found.related_cosine == pytest.approx(np.mean([cosine(a, a + 1) for a in range(G - 1)]), rel=1e-5)
    assert found.unrelated_cosine == pytest.approx(found.worst.cosines.mean(), rel=1e-12)


def test_folding_orders_pairs_by_neighbors_above_chance_and_cuts_the_rest() -> None:
    whole = folding(_vectors(), _groups(), CO_USERS, 5, n_worst=100).worst
    excess = whole.n_neighbors - whole.n_expected
    assert (np.diff(excess) <= 0).all()
    assert (whole.groups[:, 0] < whole.groups[:, 1]).all()
    cut = folding(_vectors(), _groups(), CO_USERS, 5, n_worst=2)
    for part, field in zip(cut.worst, whole, strict=True):
        np.testing.assert_array_equal(part, field[:2])
    slots = 5 * (_groups() >= 0).sum()  # the whole is the sum of its pairs, also those that are cut
    assert cut.share - cut.expected == pytest.approx(excess.sum() / slots, abs=1e-12)


def test_folding_finds_groups_that_lie_on_each_other_and_not_those_apart() -> None:
    co_users = np.eye(3, dtype=np.int64)
    folded, apart = (folding(*_planted(angle), co_users, 10) for angle in (0.0, np.pi / 2))
    # Two of three groups see each other every second time, the third never does.
    assert folded.share == pytest.approx(2 / 3 * 40 / 79, abs=0.05)
    assert folded.expected == apart.expected == pytest.approx(80 / 119, rel=1e-12)
    assert folded.worst.groups[0].tolist() == [0, 1]
    assert folded.worst.cosines[0] == pytest.approx(1, abs=1e-2)
    assert apart.share == 0
    assert apart.unrelated_cosine == pytest.approx(0, abs=2e-2)


def test_folding_forgives_groups_that_share_users() -> None:
    co_users = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    found = folding(*_planted(0.0), co_users, 10)
    assert found.share == 0
    assert found.worst.groups.tolist() == [[0, 2], [1, 2]]
    assert found.related_cosine == pytest.approx(1, abs=1e-2)


def test_folding_is_the_same_after_a_rotation_and_at_any_length() -> None:
    vectors, groups = _vectors(), _groups()
    lengths = np.random.default_rng(8).uniform(0.1, 10, (N, 1))
    turned = (vectors @ _rotation() * lengths).astype(np.float32)
    found, again = folding(vectors, groups, CO_USERS, 5), folding(turned, groups, CO_USERS, 5)
    assert found.share == again.share
    np.testing.assert_array_equal(found.worst.groups, again.worst.groups)
    np.testing.assert_allclose(found.worst.cosines, again.worst.cosines, atol=1e-5)


def test_folding_leaves_out_groups_without_items_and_says_nan_of_no_pair() -> None:
    groups = np.array([0, 0, 2, 2], np.int32)
    found = folding(_vectors(4), groups, np.zeros((4, 4), np.int64), 2)
    assert found.worst.groups.tolist() == [[0, 2]]
    assert np.isnan(found.related_cosine)
    related = folding(_vectors(4), groups, np.ones((4, 4), np.int64), 2)
    assert (related.share, related.expected, len(related.worst.groups)) == (0, 0, 0)
    assert np.isnan(related.unrelated_cosine)


@pytest.mark.filterwarnings("error")
def test_folding_gives_cosine_0_with_a_group_that_has_no_direction() -> None:
    vectors = np.array([[1, 0], [-1, 0], [1, 0], [1, 0]], np.float32)
    found = folding(vectors, np.array([0, 0, 1, 1], np.int32), np.zeros((3, 3), np.int64), 1)
    assert found.worst.cosines.tolist() == [0]


@pytest.mark.parametrize(
    ("groups", "co_users", "k", "got"),
    [
        (_groups()[1:], CO_USERS, 5, r"groups of shape \(149,\) for 150 items"),
        (_groups(), CO_USERS[1:, 1:], 5, "a group 4 and co_users of 4 groups"),
        (_groups(), CO_USERS[1:], 5, r"co_users of shape \(4, 5\) that is not symmetric"),
        (_groups(), np.triu(CO_USERS), 5, r"co_users of shape \(5, 5\) that is not symmetric"),
        (_groups(), CO_USERS[0], 0, r"co_users of shape \(5,\) that is not symmetric, k = 0"),
    ],
)
def test_folding_refuses_what_does_not_fit(groups: np.ndarray, co_users: np.ndarray, k: int, got: str) -> None:
    with pytest.raises(KernelError, match=f"got {got}; build groups"):
        folding(_vectors(), groups, co_users, k)


def test_folding_refuses_a_single_item() -> None:
    with pytest.raises(KernelError, match="at least 2 items with a group and a vector, got 1;"):
        folding(np.eye(3, dtype=np.float32), np.array([0, -1, -1], np.int32), CO_USERS, 1)


def test_norm_by_popularity_is_spearmans_of_scipy() -> None:
    rng = np.random.default_rng(9)
    n_users = rng.poisson(3, 500)  # many ties
    vectors = np.round(rng.normal(size=(500, 2)) * 2 + n_users[:, None] / 5).astype(np.float32)  # here too
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    found = norm_by_popularity(vectors, n_users)
    assert found.spearman == pytest.approx(spearmanr(norms, n_users).statistic, rel=1e-12)


def test_norm_by_popularity_is_the_same_after_a_rotation_and_in_any_order() -> None:
    n_users, order = np.arange(N) // 4, np.random.default_rng(8).permutation(N)
    found = norm_by_popularity(_vectors(), n_users)
    again = norm_by_popularity((_vectors() @ _rotation()).astype(np.float32)[order], n_users[order])
    assert again.spearman == pytest.approx(found.spearman, rel=1e-9)
    np.testing.assert_allclose(again.mean_norms, found.mean_norms, rtol=1e-6)


def test_norm_by_popularity_is_1_for_any_increasing_relation() -> None:
    n_users = np.random.default_rng(10).permutation(100)
    vectors = np.exp(n_users / 20)[:, None].astype(np.float32)
    assert norm_by_popularity(vectors, n_users).spearman == pytest.approx(1, rel=1e-12)
    assert norm_by_popularity(vectors, -n_users).spearman == pytest.approx(-1, rel=1e-12)


def test_norm_by_popularity_gives_the_mean_norm_of_deciles() -> None:
    n_users = np.random.default_rng(10).permutation(40)
    found = norm_by_popularity((n_users[:, None] * np.array([3, 4])).astype(np.float32), n_users)
    assert found.n_items.tolist() == [4] * 10
    np.testing.assert_allclose(found.mean_norms, [5 * (4 * decile + 1.5) for decile in range(10)], rtol=1e-6)


def test_norm_by_popularity_puts_equal_items_into_one_decile() -> None:
    # 12 items without a user have the place 6.5 on average, of 20: the fourth decile.
    n_users = np.array([0] * 12 + list(range(1, 9)))
    found = norm_by_popularity(np.arange(20, dtype=np.float32)[:, None], n_users)
    assert found.n_items.tolist() == [0, 0, 0, 12, 0, 0, 2, 2, 2, 2]
    assert found.mean_norms[3] == pytest.approx(11 / 2)
    assert np.isnan(found.mean_norms[[0, 1, 2, 4, 5]]).all()


@pytest.mark.filterwarnings("error")
def test_norm_by_popularity_is_nan_of_unit_vectors_and_of_equal_popularity() -> None:
    unit = _vectors() / np.linalg.norm(_vectors(), axis=1, keepdims=True)  # 1 but for rounding
    assert len(np.unique(np.linalg.norm(unit.astype(np.float64), axis=1))) > 1
    assert np.isnan(norm_by_popularity(unit, np.arange(N)).spearman)
    assert np.isnan(norm_by_popularity(_vectors(), np.full(N, 3)).spearman)


@pytest.mark.filterwarnings("error")
def test_norm_by_popularity_says_nan_of_no_items() -> None:
    found = norm_by_popularity(np.empty((0, D), np.float32), np.empty(0, np.int64))
    assert np.isnan([found.spearman, *found.mean_norms]).all()
    assert found.n_items.tolist() == [0] * 10


def test_norm_by_popularity_refuses_numbers_of_other_items() -> None:
    with pytest.raises(KernelError, match=r"n_users: expected one number for each of 150 items, got shape \(149,\);"):
        norm_by_popularity(_vectors(), np.arange(149))
