"""What the DAG reads is what the plan says."""

import json
from pathlib import Path

from recsys_spark.operations.airflow_plan import PLAN_FILE, plan_text
from recsys_spark.plan import BUNDLE_TABLES, PLAN, steps_before

ROOT = Path(__file__).parents[2]


def test_plan_file_is_in_date() -> None:
    assert (ROOT / PLAN_FILE).read_text() == plan_text(), "run `python -m recsys_spark.operations.airflow_plan`"


def test_edges_lead_to_all_that_a_step_waits_for_and_say_nothing_twice() -> None:
    steps = {step["name"]: step for step in json.loads(plan_text())["steps"]}

    def above(name: str) -> set[str]:
        return {one for parent in steps[name]["after"] for one in (parent, *above(parent))}

    for step in PLAN:
        if step.in_run:
            assert set(steps_before(step)) <= above(step.name), step.name
            for one in steps[step.name]["after"]:
                others = [other for other in steps[step.name]["after"] if other != one]
                assert not any(one in above(other) for other in others), f"{step.name} waits for {one} anyway"


def test_publish_comes_after_everything() -> None:
    steps = {step["name"]: step for step in json.loads(plan_text())["steps"]}
    assert steps["publish"]["after"] == ["audit"]
    assert set(steps_before(PLAN[-1])) == {step.name for step in PLAN if step.in_run} - {"publish"}
    assert json.loads(plan_text())["published"] == list(BUNDLE_TABLES)
