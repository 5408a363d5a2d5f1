"""What is proposed to judged users, what sources say of it, and what lists of it find, against plain loops."""

import numpy as np
import pytest

from recsys_spark.config.load import load_config
from recsys_spark.validation.choice_sets import (
    BLEND,
    KINDS,
    SETTINGS,
    WEIGHTS,
    Judged,
    choice_sets,
    columns_of,
    joined,
    recall_alone,
    recall_by,
    recall_shared,
    rrf_totals,
)
from recsys_spark.validation.fits import Trial, fit_trial
from tests.trial_world import N_ITEMS, N_USERS, grouped_log


@pytest.fixture(scope="module")
def judged() -> Judged:
    return grouped_log()


@pytest.fixture(scope="module")
def trials(judged: Judged) -> dict[str, Trial]:
    sets = ("als.factors=8", "als.alpha=20.0", "als.regularization=0.05", "als.unobserved=0.0")
    config = load_config(sets=sets)
    fitted = {name: fit_trial(name, judged.log, config) for name in ("item_cf", "als")}
    return {name: one for name, one in fitted.items() if one is not None}


def targets_of(judged: Judged, user: int) -> set[int]:
    return set(judged.targets.indices[judged.targets.indptr[user] : judged.targets.indptr[user + 1]].tolist())


def had_by(judged: Judged, user: int) -> set[int]:
    rows = judged.log.rows
    return set(rows.cols[rows.indptr[user] : rows.indptr[user + 1]].tolist())


@pytest.mark.parametrize(("most", "lengths"), [(2500, [60, 30, 30]), (20, [80, 20, 20])])
def test_parts_are_all_users_once(
    judged: Judged, most: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_spark.validation.choice_sets._MOST", most)
    parts = [judged.part(number) for number in (SETTINGS, WEIGHTS, BLEND)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(N_USERS))
    assert [len(part) for part in parts] == lengths
    kinds = judged.part(KINDS)  # are some of those who judge settings
    assert len(kinds) == min(most, lengths[0])
    assert set(kinds.tolist()) <= set(parts[0].tolist())
    assert all((np.diff(part) > 0).all() for part in (*parts, kinds))


def recall_at_both(first: list[int], targets: set[int], k: int) -> float:
    """The mean of the recall of `first` to depth k and to half of it."""
    return sum(len(set(first[:depth]) & targets) for depth in (k, k // 2)) / 2 / len(targets)


def test_recall_alone_is_the_share_of_targets_among_the_first_places(judged: Judged, trials: dict[str, Trial]) -> None:
    places = np.array([1, 8, 60])
    found = recall_alone(judged, trials["item_cf"], places)
    lists = trials["item_cf"].scorer(judged.log, places).lists(9)
    for row, user in enumerate(places):
        first = lists.indices[lists.indptr[row] : lists.indptr[row + 1]].tolist()
        assert found[row] == pytest.approx(recall_at_both(first, targets_of(judged, user), judged.k))
    assert found.mean() > 0


def test_recall_shared_walks_past_what_a_user_has(judged: Judged) -> None:
    places = np.arange(N_USERS)
    found = recall_shared(judged, "popular/global", places)
    popular = judged.shared["popular/global"].indices.tolist()
    for user in places:
        first = [item for item in popular if item not in had_by(judged, user)]
        assert found[user] == pytest.approx(recall_at_both(first, targets_of(judged, user), judged.k))


def test_choice_sets_are_unions_with_standard_scores(judged: Judged, trials: dict[str, Trial]) -> None:
    depth, places = 4, judged.part(WEIGHTS)
    sets = choice_sets(judged, trials, WEIGHTS, depth)
    scorers = {name: one.scorer(judged.log, places) for name, one in trials.items()}
    popular = judged.shared["popular/global"].indices.tolist()
    scores = judged.shared["popular/global"].scores.astype(float)
    of_all = np.concatenate([scores, np.zeros(N_ITEMS - 1 - len(scores))])  # what may be listed
    for row, user in enumerate(places):
        mine = slice(sets.indptr[row], sets.indptr[row + 1])
        wanted = {item for item in popular[:depth] if item not in had_by(judged, user)}
        for scorer in scorers.values():
            lists = scorer.lists(depth)
            wanted |= set(lists.indices[lists.indptr[row] : lists.indptr[row + 1]].tolist())
        items = sets.items[mine].tolist()
        assert items == sorted(wanted)
        assert sets.taken[mine].tolist() == [item in targets_of(judged, user) for item in items]
        for column, scorer in enumerate(scorers.values()):
            mean, deviation = (one[row] for one in scorer.background())
            raw = scorer.scores(np.full(len(items), row), np.array(items, np.int32)).astype(float)
            expected = np.nan_to_num((raw - mean) / deviation, nan=0.0)
            np.testing.assert_allclose(sets.values[mine, column], expected, rtol=1e-6)
        of_popular = [(scores[popular.index(item)] - of_all.mean()) / of_all.std() for item in items]
        np.testing.assert_allclose(sets.values[mine, 2], of_popular, rtol=1e-6)


def test_lists_by_totals_find_what_stands_first(judged: Judged, trials: dict[str, Trial]) -> None:
    sets = choice_sets(judged, trials, BLEND, 20)
    proposed = np.add.reduceat(sets.taken, sets.indptr[:-1])
    best = recall_by(judged, BLEND, sets, sets.taken.astype(float))
    # What is taken stands first: all of it among 5, 2 at most among 2.
    found = (proposed + np.minimum(proposed, 2)) / 2
    np.testing.assert_allclose(best, found / judged.targets.lengths[judged.part(BLEND)])
    assert recall_by(judged, BLEND, sets, -sets.taken.astype(float)).mean() < 0.5
    # Who had nothing proposed finds nothing.
    alone = recall_by(judged, BLEND, sets, sets.values[:, 0])
    np.testing.assert_allclose(alone, recall_alone(judged, trials["item_cf"], judged.part(BLEND)))


def test_rrf_totals_are_sums_of_reciprocal_ranks(judged: Judged, trials: dict[str, Trial]) -> None:
    sets = choice_sets(judged, trials, BLEND, 6)
    weights = np.array([1.0, 0.5, 2.0])
    found = rrf_totals(sets.values, sets.users, 60, weights)
    for row in range(len(sets.indptr) - 1):
        mine = slice(sets.indptr[row], sets.indptr[row + 1])
        expected = np.zeros(mine.stop - mine.start)
        for column, weight in zip(sets.values[mine].T, weights, strict=True):
            ranks = np.argsort(np.argsort(-column, kind="stable")) + 1
            expected += np.where(column > 0, weight / (60 + ranks), 0)
        np.testing.assert_allclose(found[mine], expected)


def test_joined_lays_sets_end_to_end(judged: Judged, trials: dict[str, Trial]) -> None:
    parts = [choice_sets(judged, trials, part, 3) for part in (WEIGHTS, BLEND)]
    both = joined(parts)
    assert len(both.indptr) == 61
    assert both.indptr[30] == len(parts[0].taken)
    np.testing.assert_array_equal(both.values[both.indptr[30] :], parts[1].values)


def test_what_content_says_of_new_items_stands_in_a_column_of_its_own() -> None:
    judged = grouped_log(n_items=80, n_new=16)
    content = fit_trial("content", judged.log, load_config(sets=('sources.enabled=["content"]',)))
    assert content is not None
    names = columns_of(["content"], judged.shared)
    assert names == ("content", "popular/global", "content/new")
    sets = choice_sets(judged, {"content": content}, BLEND, 60)
    is_new = ~judged.log.had[sets.items]
    assert is_new.any()
    assert not sets.values[is_new, 0].any()
    assert not sets.values[~is_new, 2].any()
    assert sets.values[is_new, 2].all()
    of_new = judged.of_new_items()
    assert sorted(set(of_new.targets.indices.tolist())) == list(range(63, 79))
    assert (of_new.targets.lengths == 1).all()
