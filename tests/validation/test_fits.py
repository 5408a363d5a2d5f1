"""Sources fitted to a log on the driver, under settings of the run."""

from collections.abc import Callable

import numpy as np
import pytest

from recsys_spark.config.schema import Config
from recsys_spark.validation import fits
from recsys_spark.validation.fits import fit_trial
from tests.trial_world import CUTOFF, N_GROUPS, N_ITEMS, grouped_log

ALL = 'sources.enabled=["item_cf","als","low_pass","successors"]'
SMALL = (
    "als.factors=8",
    "sources.low_pass.rank=4",
    "als.alpha=20.0",
    "als.regularization=0.05",
    "als.unobserved=0.0",
)


@pytest.mark.parametrize("source", ["item_cf", "als", "low_pass", "successors"])
def test_every_source_lists_what_is_of_the_users_own_group(source: str, make_config: Callable[..., Config]) -> None:
    judged = grouped_log(has_order=True)
    trial = fit_trial(source, judged.log, make_config(ALL, *SMALL))
    assert trial is not None
    places = np.array([0, 5, 17, 118])
    scorer = trial.scorer(judged.log, places)
    lists = scorer.lists(3)
    assert scorer.places.tolist() == [0, 1, 2, 3]
    for row, user in enumerate(places):
        items = lists.indices[lists.indptr[row] : lists.indptr[row + 1]]
        had = judged.log.rows.cols[judged.log.rows.indptr[user] : judged.log.rows.indptr[user + 1]]
        assert len(items)
        assert (items % N_GROUPS == user % N_GROUPS).sum() >= len(items) - 1  # who has one of another group
        assert not set(items) & set(had)
        assert N_ITEMS - 1 not in items  # it may not be listed


def test_ridge_is_fitted_once_and_only_where_the_run_could_send_its_sums(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, config = grouped_log().log, make_config(ALL, "item_cf.similarity=ridge")
    first, again = (fit_trial("item_cf", log, config) for _ in range(2))
    assert first is not None
    assert again is not None
    assert len(log.lists) == 1
    assert first.model.neighbors is again.model.neighbors  # type: ignore[attr-defined]
    monkeypatch.setattr(fits, "_MAX_TRIAL_PAIRS", N_ITEMS**2 - 1)  # all pairs of items have a user in so small a log
    assert fit_trial("item_cf", log, config) is None


def test_long_vectors_are_not_tried_where_an_exact_search_by_them_takes_too_long(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = grouped_log().log
    for name, value in (("_LONG", 4), ("_MAX_PRODUCTS", len(log.rows.indptr) * N_ITEMS * 4)):
        monkeypatch.setattr(fits, name, value)
    for factors, is_tried in ((4, True), (8, False)):
        config = make_config(ALL, f"validation.fallback.als.factors={factors}")
        assert (fit_trial("als", log, config) is not None) == is_tried
    assert fit_trial("als", log, make_config(ALL, "als.factors=8")) is not None  # a person wrote it
    monkeypatch.setattr(fits, "_MAX_PRODUCTS", fits._SIDES * len(log.rows.cols) * 63)  # fits cost as well
    assert fit_trial("als", log, config) is None
    monkeypatch.setattr(fits, "_MAX_PRODUCTS", fits._SIDES * len(log.rows.cols) * 64)
    assert fit_trial("als", log, config) is not None


def test_successors_are_not_tried_where_nothing_is_known_of_the_order(make_config: Callable[..., Config]) -> None:
    assert fit_trial("successors", grouped_log().log, make_config(ALL)) is None


def test_weights_decay_by_age_and_leave_out_what_has_decayed_to_nothing() -> None:
    log = grouped_log().log
    ages = (CUTOFF.timestamp() * 1e6 - log.rows.columns["time"]) / 86_400_000_000
    np.testing.assert_allclose(log.weights(10.0).values, 0.5 ** (ages / 10), rtol=1e-5)
    assert len(log.weights(0.1).values) == np.count_nonzero((0.5 ** (ages / 0.1)).astype(np.float32))
    log.rows.columns["weight"][:7] = 0
    assert len(log.weights().values) == len(ages) - 7


@pytest.mark.parametrize(("ridge", "has_collapsed"), [(0.05, False), (40.0, True)])
def test_factors_that_give_all_users_one_order_are_told(
    ridge: float, has_collapsed: bool, make_config: Callable[..., Config]
) -> None:
    trial = fit_trial("als", grouped_log().log, make_config(ALL, *SMALL, f"als.regularization={ridge}"))
    assert trial is not None
    assert trial.has_collapsed == has_collapsed


def test_factors_by_attributes_list_what_nobody_has_had(make_config: Callable[..., Config]) -> None:
    judged = grouped_log(n_new=8)
    new = set(range(N_ITEMS - 9, N_ITEMS - 1))
    found = []
    for names in ("[]", '["category"]'):
        trial = fit_trial("als", judged.log, make_config(ALL, *SMALL, "als.factors=4", f"als.item_attributes={names}"))
        assert trial is not None
        lists = trial.scorer(judged.log, np.arange(40)).lists(10)
        listed = [set(lists.indices[lists.indptr[user] : lists.indptr[user + 1]]) & new for user in range(40)]
        found.append(sum(len(items) for items in listed))
        # Of their own group they are the two that there are.
        assert all(item % N_GROUPS == user % N_GROUPS for user, items in enumerate(listed) for item in items)
    assert found[0] == 0
    assert found[1] > 20


def test_attributes_are_not_tried_where_the_log_has_none(make_config: Callable[..., Config]) -> None:
    config = make_config(ALL, *SMALL)
    named = config.model_copy(update={"als": config.als.model_copy(update={"item_attributes": ["category"]})})
    assert fit_trial("als", grouped_log().log, named) is None
    written = make_config(ALL, *SMALL, 'als.item_attributes=["category"]')
    assert fit_trial("als", grouped_log().log, written) is not None
