"""Blends that find most are chosen, and sources that they do without leave."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from recsys_spark.config.schema import Config
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.top_k import search_items
from recsys_spark.retrieval.scorers import vector_model
from recsys_spark.validation.blends import _cautious, _more_new, _Way, choose_blend, useless_sources
from recsys_spark.validation.choice_sets import BLEND, SETTINGS, Judged, recall_alone, recall_shared
from recsys_spark.validation.fits import Trial, fit_trial
from recsys_spark.validation.tried import Chosen, Earlier
from tests.trial_world import N_GROUPS, N_ITEMS, N_USERS, grouped_log


def blend_of(
    judged: Judged, config: Config, trials: dict[str, Trial], before: Earlier | None = None
) -> tuple[Chosen, dict[str, str]]:
    part = judged.part(SETTINGS)
    alone = {name: recall_alone(judged, one, part) for name, one in trials.items()}
    shared = {name: recall_shared(judged, name, part) for name in judged.shared}
    found = Chosen()
    folds = {name: [one] for name, one in trials.items()}
    gone = choose_blend([judged], folds, config, useless_sources(alone, shared), found, before)
    return found, gone


def near_items(judged: Judged, config: Config) -> Trial:
    trial = fit_trial("item_cf", judged.log, config)
    assert trial is not None
    return trial


def test_a_source_that_finds_nothing_leaves_and_one_that_was_not_tried_weighs_as_others_do(
    make_config: Callable[..., Config],
) -> None:
    judged = grouped_log()
    groups = np.eye(N_GROUPS, dtype=np.float32)
    others = search_items(groups[(np.arange(N_ITEMS) + 1) % N_GROUPS], np.flatnonzero(judged.log.listed))
    noise = Trial(vector_model(others), groups[np.arange(N_USERS) % N_GROUPS], 20)  # what is of another group
    enabled = 'validation.fallback.sources.enabled=["popular","item_cf","content","two_tower"]'
    config = make_config(enabled)
    found, gone = blend_of(judged, config, {"item_cf": near_items(judged, config), "content": noise})
    assert gone == {"content": "surely finds less than a quarter of item_cf"}
    weights = found.settings["candidates.score_weights"]
    assert (weights["item_cf"], weights["content"], weights["two_tower"]) == (1.0, 0.0, 0.5)


def test_what_everybody_goes_on_to_decides_alone(make_config: Callable[..., Config]) -> None:
    """Each user went on to what is popular, and to nothing of their group."""
    judged = grouped_log()
    target = int(judged.shared["popular/global"].indices[0])
    lists = {"popular/global": Ranked(np.array([0, 1]), np.array([target], np.int32), np.ones(1, np.float32))}
    users = np.array([user for user in range(N_USERS) if user % 4 != target % 4])
    targets = judged.targets._replace(
        indptr=np.arange(len(users) + 1), indices=np.full(len(users), target, np.int32), values=np.ones(len(users))
    )
    judged = replace(judged, log=replace(judged.log, judged=users), targets=targets, shared=lists)
    config = make_config()
    found, gone = blend_of(judged, config, {"item_cf": near_items(judged, config)})
    ways = {one.name: one for one in found.tried}
    assert ways["popular/global"].recall.mean() == 1
    assert ways["item_cf"].recall.mean() < 0.9
    assert [one.recall.mean() for one in found.tried if one.chosen] == [1.0]
    assert gone == {}  # it finds less than what is popular, and is the last that is of single users


def test_new_items_earn_their_places_by_what_the_catalogue_says_of_them(make_config: Callable[..., Config]) -> None:
    """Content tells the group of every item and no more; of new items nothing else tells anything."""
    judged = grouped_log(n_items=80, n_new=16)
    config = make_config('sources.enabled=["item_cf","content"]')
    content = fit_trial("content", judged.log, config)
    assert content is not None
    trials = {"item_cf": near_items(judged, config), "content": content}
    found, _ = blend_of(judged, config, trials)
    weights = found.settings["candidates.score_weights"]
    assert weights["content/new"] > 0
    assert found.figures["n_new"] == 30  # each of the users who judge
    new = judged.of_new_items()
    alone = recall_alone(new, content, judged.part(BLEND))
    # A list of content alone has new items among the old ones of the group, as chance will have it.
    assert found.figures["recall_of_new"] >= 0.5 * alone.mean()
    (with_all,) = [one.recall.mean() for one in found.tried if one.chosen]
    without, _ = blend_of(judged, config, {"item_cf": trials["item_cf"]})
    assert with_all >= max(one.recall.mean() for one in without.tried)
    assert "recall_of_new" in without.figures
    assert without.figures["recall_of_new"] == 0


def test_what_a_person_weighs_by_nothing_has_no_say(make_config: Callable[..., Config]) -> None:
    judged = grouped_log()
    config = make_config('sources.enabled=["popular","item_cf"]', 'candidates.source_weights={"item_cf"=0.0}')
    found, _ = blend_of(judged, config, {"item_cf": near_items(judged, config)})
    ways = {one.name: one for one in found.tried}
    assert "item_cf" not in ways  # alone it would order nothing
    usual, _ = blend_of(judged, make_config(), {"item_cf": near_items(judged, config)})
    by_rank = {one.name: one.recall.mean() for one in usual.tried}["rrf"]
    assert ways["rrf"].recall.mean() < by_rank / 2


def test_capped_scores_are_taken_where_scores_without_a_cap_gain_next_to_nothing() -> None:
    both, one = np.array([1.0, 0.5]), np.array([1.0, 0.0])
    ways = {"open": _Way("background", both), "capped": _Way("capped", both), "alone": _Way("background", one)}
    found = np.tile([0.0, 1.0], 50)
    slightly = found + np.where(np.arange(100) < 2, (-0.4, 0.5) * 50, 0.0)
    surely = found + 0.1
    assert _cautious("open", ways, {"open": slightly, "capped": found, "alone": found}) == "capped"
    assert _cautious("open", ways, {"open": surely, "capped": found, "alone": found}) == "open"
    assert _cautious("alone", ways, {"open": found, "capped": found, "alone": slightly}) == "alone"


@pytest.mark.parametrize("method", ["scores", "rrf"])
def test_a_blend_stays_with_what_it_did_without_and_never_as_what_all_users_share(
    make_config: Callable[..., Config], method: str
) -> None:
    judged = grouped_log()
    config = make_config('validation.fallback.sources.enabled=["popular","item_cf","als","content"]')
    trials = {"item_cf": near_items(judged, config)}
    usual, gone = blend_of(judged, config, trials)
    assert gone == {}
    of_item_cf = usual.settings | {"candidates.method": method}
    left = frozenset(["als"])
    found, gone = blend_of(judged, config, trials, Earlier(of_item_cf, frozenset(), left))
    (kept,) = [one for one in found.tried if one.name == f"as before: {method}"]
    assert set(gone) == (left if kept.chosen else set())  # als is not tried now
    assert kept.chosen or method == "rrf"  # by which popularity has as much to say
    only_popular = {"item_cf": 0.0, "popular/global": 1.0}
    for_all = usual.settings | {"candidates.score_weights": only_popular}
    found, gone = blend_of(judged, config, trials, Earlier(for_all, frozenset(), frozenset()))
    assert not [one for one in found.tried if one.name.startswith("as before")]
    assert gone == {}


@dataclass(frozen=True)
class Proposed:
    """What blends find: of new items the more, the more is said of them; of all items less above a weight of `most`."""

    most: float
    names: tuple[str, ...] = ("content", "content/new")

    def recall(self, way: _Way) -> np.ndarray:
        return np.full(40, 0.5 if way.weights[1] <= self.most else 0.4)

    def recall_of_new(self, way: _Way) -> np.ndarray:
        return np.full(8, way.weights[1] / 10)


@pytest.mark.parametrize(("most", "weight"), [(0.5, 0.5), (1.1, 1.0), (9.0, 2.0)])
def test_of_new_items_is_said_what_costs_nothing(most: float, weight: float) -> None:
    table: Any = Proposed(most)
    way = _Way("capped", np.array([1.0, 0.5]))
    for name in ("scores", "as before: scores"):
        ways, recalls = {name: way}, {name: table.recall(way)}
        best = _more_new(name, ways, recalls, table)
        assert ways[best].weights.tolist() == [1.0, 0.5 if "before" in name else weight]
        assert set(recalls) == set(ways)
