"""Judging in a worker, without a JVM: Arrow batches of users in, sums of every figure out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recsys_spark.blend.kernels.diversity import ItemTraits
from recsys_spark.evaluation.judge import EvaluationSetup, _examiner, _figures, _reducer
from recsys_spark.evaluation.kernels.figures import ALL, NEW_USERS, Figure
from recsys_spark.numeric.bootstrap import RESAMPLES, Tally
from tests.blend_batches import ALL_SHOWN, make_shared, make_users, ranked

SOURCES = ("als", "top", "most")
SHARED = make_shared([("top", None, ranked(1, 2, 3, 4)), ("most", None, ranked(2, 1))], SOURCES, (1.0, 1.0, 0.0), k=4)
EXAM = EvaluationSetup(
    shared=SHARED,
    blends={"blend/rrf": SHARED.settings},
    popular="most",
    item_users=np.array([0, 3, 2, 1, 0, 0, 0, 0, 0, 0]),
    n_users=3,
    is_head=np.arange(10) == 1,
    heavy_items=2,
    segments=("FR",),
    variants=("new",),
    lengths=(2, 4),
    seed=1,
)


@dataclass(frozen=True)
class Sent:
    value: EvaluationSetup


def users() -> pa.RecordBatch:
    """u1, heavy, of FR, with a list of their own; u2, light; u3, who is new."""
    batch = make_users(("u1", "FR", [1], [("als", ranked(7, 3, 1))]), ("u2", None, [], None), ("u3", None, [], None))
    targets = pa.list_(pa.struct([("item_idx", pa.int32()), ("is_known", pa.bool_())]))
    wanted = [[(3, True), (-1, False)], [(1, True), (9, False)], [(2, True)]]
    lists = [[3, 8], [1, -1], []]  # -1: an item that the index does not know
    columns = {
        "n_items": pa.array([2, 1, 0], pa.int32()),
        "targets": pa.array([[{"item_idx": i, "is_known": known} for i, known in one] for one in wanted], targets),
        "published": pa.array(lists, pa.list_(pa.int32())),
        "variant": pa.array(["new", "main", None]),
    }
    return pa.RecordBatch.from_arrays([*batch.columns, *columns.values()], names=[*batch.schema.names, *columns])


def figures(*batches: pa.RecordBatch, setup: EvaluationSetup = EXAM) -> dict[Figure, Tally]:
    parts = pa.Table.from_batches(list(_examiner(Sent(setup))(iter(batches))))
    return reduced(parts)


def reduced(parts: pa.Table) -> dict[Figure, Tally]:
    """Each figure by itself, as Spark groups them."""
    reduce, found = _reducer(len(ALL_SHOWN.item_idx)), {}
    names = ["list", "metric_group", "metric", "k"]
    for key in parts.select(names).group_by(names).aggregate([]).to_pylist():
        mine = [pc.equal(parts[name], key[name]) for name in names]
        found |= _figures(reduce(parts.filter(pc.and_(pc.and_(mine[0], mine[1]), pc.and_(mine[2], mine[3])))))
    return found


def means(found: dict[Figure, Tally], group: str, metric: str = "recall", k: int = 2) -> dict[str, float]:
    return {
        figure.list_name: round(float(one.means[0]), 4)
        for figure, one in found.items()
        if (figure.group, figure.metric, figure.k) == (group, metric, k)
    }


def test_every_list_is_judged_as_its_user_would_see_it() -> None:
    found = figures(users())
    # Of the source als u1 sees 7 and 3, of top 2 and 3, of the two together 3 and 2; u2 and u3 see shared lists alone.
    assert means(found, ALL) == {"published": 1.0, "blend/rrf": 1.0, "als": 0.5, "top": 1.0, "most": 0.5}
    assert means(found, NEW_USERS) == {"published": 0.0, "blend/rrf": 1.0, "als": 0.0, "top": 1.0, "most": 1.0}
    assert means(found, "users/heavy")["als"] == 1.0
    assert means(found, "users/light")["als"] == 0.0
    assert means(found, "users/segment=FR")["published"] == means(found, "users/variant=new")["published"] == 1.0
    assert means(found, "items/head")["most"] == 1.0
    assert means(found, "items/tail")["most"] == 0.0
    assert means(found, "items/new") == dict.fromkeys(("published", "blend/rrf", *SOURCES), 0.0)
    assert found[Figure("als", ALL, "recall", 2)].n[0] == 2
    assert len(found[Figure("als", ALL, "recall", 2)].n) == 1 + RESAMPLES


def test_lists_spread_over_what_may_be_shown() -> None:
    found = figures(users())
    assert means(found, ALL, "coverage") == {"published": 0.3, "blend/rrf": 0.3, "als": 0.2, "top": 0.3, "most": 0.2}
    assert 0 < means(found, ALL, "gini")["top"] < 1
    assert means(found, ALL, "serendipity")["als"] == 0.25, "u1 finds 3 at one of two places, u2 nothing"


def test_the_mix_of_categories_is_held_against_the_history() -> None:
    history = pa.array([[1, 9], [3], None], pa.list_(pa.int32()))
    batch = users().append_column("history", history)
    codes = np.array([-1, 0, 0, 1, 0, 0, 0, 0, 0, -1], np.int32)
    setup = replace(EXAM, shared=replace(SHARED, traits=ItemTraits(categories=codes)))
    found = means(figures(batch, setup=setup), ALL, "miscalibration")
    # u1 had category 0 only, u2 category 1 only: half of the list that `top` has for u1 is of 1, of that for u2 none.
    half, other = -math.log(0.99 * 0.5 + 0.01), -math.log(0.01)
    assert found["top"] == pytest.approx((half + other) / 2, abs=1e-4)
    assert means(figures(users(), setup=setup), ALL, "miscalibration") == {}, "without histories it is not measured"


def test_places_are_rated_for_who_asks() -> None:
    # u1 sees 2 and 3 of `top` and wants 3, u2 sees 1 first and wants it.
    rated = figures(users(), setup=replace(EXAM, rated_places=2))
    assert [means(rated, ALL, "rate", place)["top"] for place in (1, 2)] == [0.5, 0.5]
    assert means(figures(users()), ALL, "rate", 1) == {}


def test_batches_and_parts_add_up() -> None:
    whole, halves = figures(users()), figures(users().slice(0, 1), users().slice(1))
    parts = [pa.Table.from_batches(list(_examiner(Sent(EXAM))(iter([users().slice(*at)])))) for at in ((0, 1), (1, 2))]
    for other in (halves, reduced(pa.concat_tables(parts))):
        assert other.keys() == whole.keys()
        for figure, one in whole.items():
            np.testing.assert_allclose(other[figure].total, one.total, atol=1e-9)
            np.testing.assert_allclose(other[figure].n, one.n, atol=1e-9)


def test_a_task_without_users_sums_up_nothing() -> None:
    (batch,) = _examiner(Sent(EXAM))(iter([]))
    assert batch.num_rows == 0


@pytest.mark.parametrize("weights", [(0.0, 0.0, 0.0)])
def test_a_blend_of_nothing_has_empty_lists(weights: Sequence[float]) -> None:
    blend = replace(SHARED.settings, weights=tuple(weights))
    assert means(figures(users(), setup=replace(EXAM, blends={"blend/none": blend})), ALL)["blend/none"] == 0.0
