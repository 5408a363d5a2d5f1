"""Who gets a list, and what is kept out of it."""

import pytest
from pyspark.sql import SparkSession

from recsys_spark.signals.visibility import active_users, is_hidden
from tests.blend_inputs import frame, interaction, make_inputs
from tests.engagement import CUTOFF, FOREVER, before


@pytest.mark.parametrize("policy", ["exclude", "keep", "repeat_after_days"])
def test_is_hidden_follows_the_policy_and_a_dislike_always(spark: SparkSession, make_config, policy: str) -> None:
    candidates = make_config(f"candidates.seen={policy}", "candidates.repeat_after_days=30").candidates
    rows = [
        interaction(0, at, before(days=age), before(days=-until) if until is not None else None, n_events)
        for at, ((age, n_events, until), _) in enumerate(ROWS.values())
    ]
    found = frame(spark, "interactions", rows).select("item_idx", is_hidden(candidates, CUTOFF)).collect()
    assert dict(zip(ROWS, [hidden for _, hidden in sorted(found)], strict=True)) == {
        name: hidden[policy] for name, (_, hidden) in ROWS.items()
    }


def test_active_users_are_those_of_the_last_days_with_their_exclusions_sorted(spark: SparkSession, make_config) -> None:
    rows = [interaction(0, item, before(days=500)) for item in (4, 2)] + [interaction(0, 3, before(days=365))]
    rows += [interaction(1, 0, before(days=366)), interaction(2, 1, before(days=1), FOREVER, 0)]
    inputs = make_inputs(spark, interactions=rows)
    users = active_users(inputs, make_config().candidates, CUTOFF).collect()
    assert sorted(tuple(user) for user in users) == [(0, "u0", "FR", [2, 3, 4]), (2, "u2", "FR", [1])]
    everyone = make_config("candidates.active_within_days=0").candidates
    assert sorted(user["user_id"] for user in active_users(inputs, everyone, CUTOFF).collect()) == ["u0", "u1", "u2"]


# (days since the last engagement, number of engagements, days for which a dislike still holds) -> hidden, by policy
ROWS = {
    "bought long ago": ((200, 1, None), {"exclude": True, "keep": False, "repeat_after_days": False}),
    "bought lately": ((29, 1, None), {"exclude": True, "keep": False, "repeat_after_days": True}),
    "bought just so long ago": ((30, 1, None), {"exclude": True, "keep": False, "repeat_after_days": False}),
    "disliked": ((200, 0, 5), {"exclude": True, "keep": True, "repeat_after_days": True}),
    "dislike has expired": ((200, 0, -5), {"exclude": False, "keep": False, "repeat_after_days": False}),
    "dislike expires at the date": ((200, 0, 0), {"exclude": False, "keep": False, "repeat_after_days": False}),
    "bought, dislike has expired": ((200, 1, -5), {"exclude": True, "keep": False, "repeat_after_days": False}),
    "bought lately and disliked": ((1, 1, 5), {"exclude": True, "keep": True, "repeat_after_days": True}),
}
