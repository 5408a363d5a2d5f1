"""A kind of a source is judged by what it adds to the other sources."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recsys_spark.config.schema import Config
from recsys_spark.validation.choice_sets import KINDS, SETTINGS, recall_alone
from recsys_spark.validation.fits import fit_trial
from recsys_spark.validation.kinds import recalls_beside
from tests.trial_world import grouped_log


def test_what_others_say_already_adds_nothing_and_what_they_do_not_say_adds(make_config: Callable[..., Config]) -> None:
    judged, young = grouped_log(3), replace(grouped_log(4), shared={})
    folds = [replace(judged, shared={}), young]
    config = make_config("als.factors=8", "als.regularization=100.0", "als.unobserved=0.0")
    collapsed = [fit_trial("als", one.log, config) for one in folds]
    near = [fit_trial("item_cf", one.log, config) for one in folds]
    same, other = recalls_beside(folds, {"als": collapsed}, "item_cf", [collapsed, near], {})
    alone = [recall_alone(one, fit, one.part(KINDS)) for one, fit in zip(folds, collapsed, strict=True)]
    np.testing.assert_allclose(same, np.concatenate(alone))
    assert len(other) == sum(len(one.part(SETTINGS)) for one in folds)
    assert other.mean() > same.mean() + 0.2
    unheard = recalls_beside(folds, {"als": collapsed}, "item_cf", [collapsed, near], {"item_cf": 0.0})
    np.testing.assert_allclose(unheard, [same, same])  # a person wrote that the source says nothing
    (unheard,) = recalls_beside(folds, {"item_cf": near}, "als", [collapsed], {"item_cf": 0.0})
    np.testing.assert_allclose(unheard, same)
