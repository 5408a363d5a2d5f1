"""A session that no run has seen is scored as the fit would score a user with its interactions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys_spark.als.kernels.objective import Ridge, diagonal, fixed_side, gramian, solve_rows
from recsys_spark.errors import ArgumentError
from recsys_spark.numeric.top_k import damped, search_items, top_k
from recsys_spark.serving.bundle import open_current
from recsys_spark.serving.item_factors import ItemFactors, item_factors
from tests.made_warehouse import FACTORS, RUN_A, publish_bundle
from tests.sparse import csr_of_pairs

VECTORS = np.array([FACTORS[one] for one in sorted(FACTORS)], np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    publish_bundle(folder, RUN_A, ["ann"])
    return folder


@pytest.fixture(scope="module")
def factors(root: Path) -> ItemFactors:
    bundle = open_current(root)
    return item_factors(bundle.read_table("item_factors", ("item_id", "item_idx", "vector", "shown")), root, RUN_A)


def test_score_session_lists_what_is_like_the_session_without_what_is_in_it_or_may_not_be_shown(
    factors: ItemFactors,
) -> None:
    assert [one.item_id for one in factors.score_session([("i1", 1.0)], 9)] == ["i2", "i4", "i3"]
    assert [one.item_id for one in factors.score_session([("i3", 1.0)], 2)] == ["i4", "i2"]


def test_score_session_scores_as_the_dense_system_says(factors: ItemFactors) -> None:
    # One item of weight 3 at alpha 2: confidence 7, ridge .1.
    y = VECTORS[0].astype(np.float64)
    system = VECTORS.T.astype(np.float64) @ VECTORS + 0.1 * np.eye(2) + 6 * np.outer(y, y)
    x = np.linalg.solve(system, 7 * y)
    found = factors.score_session([("i1", 1.0), ("unknown", 5.0), ("i1", 2.0)], 1)
    assert found[0].item_id == "i2"
    assert found[0].rank == 1
    assert found[0].score == pytest.approx(float(VECTORS[1] @ x), rel=1e-5)  # float32


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_score_session_lists_what_the_kernels_list(exponent: float) -> None:
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(300, 8)).astype(np.float32)
    vectors[7] = 0
    shown = rng.random(300) < 0.8
    ridge = Ridge(3.0, 0.01, 1.0)
    settings = {
        "alpha": 3.0,
        "regularization": 0.01,
        "nu": 1.0,
        "unobserved": 1.0,
        "n_cols": 300.0,
        "norm_exponent": exponent,
    }
    ids = tuple(f"i{at:03d}" for at in range(300))
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    places = {item_id: at for at, item_id in enumerate(ids)}
    factors = ItemFactors(ids, vectors, lengths, shown, settings, places, gramian(vectors))
    chosen = rng.choice(300, 12, replace=False)
    matrix = csr_of_pairs(np.zeros(12, int), chosen, np.arange(1.0, 13.0), 1, 300)
    X = solve_rows(matrix, fixed_side(vectors, *diagonal(gramian(vectors)), 300), ridge).X
    expected = top_k(X, search_items(damped(vectors, exponent), np.flatnonzero(shown)), 20, matrix, 1 << 20)
    events = zip((ids[at] for at in chosen), np.arange(1.0, 13.0).tolist(), strict=True)
    found = factors.score_session(events, 20)
    assert [one.item_id for one in found] == [ids[at] for at in expected.indices]
    np.testing.assert_allclose([one.score for one in found], expected.scores, rtol=1e-4)  # float32, eight products


def test_score_session_breaks_ties_by_the_smaller_index(factors: ItemFactors) -> None:
    same = np.tile(np.array([1.0, 0.0], np.float32), (5, 1))
    tied = replace(factors, vectors=same, lengths=np.ones(5), gramian=gramian(same), shown=np.ones(5, bool))
    assert [one.item_id for one in tied.score_session([("i3", 1.0)], 2)] == ["i1", "i2"]


@pytest.mark.parametrize("events", [[], [("unknown", 1.0)], [("i1", 0.0)]])
def test_score_session_has_nothing_to_say_without_a_known_item(
    factors: ItemFactors, events: list[tuple[str, float]]
) -> None:
    assert factors.score_session(events, 5) == ()


def test_score_session_sums_weights_as_the_pipeline_does(factors: ItemFactors) -> None:
    # What was returned is no interest, but it is not shown again either.
    kept = factors.score_session([("i1", 2.0), ("i1", -1.0), ("i3", 1.0), ("i3", -3.0)], 5)
    assert kept == tuple(one for one in factors.score_session([("i1", 1.0), ("i3", 0.0)], 5) if one.item_id != "i3")
    assert factors.score_session([("i1", -1.0)], 5) == ()


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_score_session_refuses_a_weight_that_is_not_finite(factors: ItemFactors, weight: float) -> None:
    with pytest.raises(ArgumentError, match="expected finite weights"):
        factors.score_session([("i1", weight)], 5)


def test_item_factors_names_a_run_without_a_fit(root: Path) -> None:
    table = open_current(root).read_table("item_factors", ("item_id", "item_idx", "vector", "shown"))
    with pytest.raises(ArgumentError, match="20250301-001-9f2c81aa: expected a run that has fitted factors"):
        item_factors(table, root, "20250301-001-9f2c81aa")


def test_fold_in_of_the_bundle_reads_its_own_factors(root: Path) -> None:
    bundle = open_current(root)
    assert [one.item_id for one in bundle.fold_in([("i1", 1.0)], k=2)] == ["i2", "i4"]
    assert [one.item_id for one in bundle.fold_in((("i3", 1.0) for _ in range(2)), k=1)] == ["i4"]
    with pytest.raises(ArgumentError, match="k of at least 1, got 0"):
        bundle.fold_in([("i1", 1.0)], k=0)
    with pytest.raises(ArgumentError, match="ids as text, got int"):
        bundle.fold_in([(1, 1.0)])  # type: ignore[list-item]
