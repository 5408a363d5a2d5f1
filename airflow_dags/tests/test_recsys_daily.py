"""The DAG without Spark: it imports, holds the plan together, and does what exit codes ask for."""

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import DAGS

Submits = Callable[..., list[list[str]]]
Exits = Callable[[str, str], None]


@pytest.fixture(scope="module")
def bag(airflow_db: None):
    """The DAGs as Airflow reads them: from another folder, and without a path to theirs but what it makes itself."""
    from airflow.dag_processing.dagbag import BundleDagBag

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("/")
        patch.setattr(sys, "path", [path for path in sys.path if path != str(DAGS)])
        yield BundleDagBag(str(DAGS), bundle_path=DAGS, bundle_name="dags")


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    return json.loads((DAGS / "plan.json").read_text())


@pytest.fixture(scope="module")
def dag(bag):
    for task in bag.dags["recsys_daily"].tasks:
        task.retry_delay = timedelta(milliseconds=100)
    return bag.dags["recsys_daily"]


def run_of(dag, day: int, only: str = ""):
    """A run of a date; of some tasks only, if `only` names them: then the others do nothing, and end well."""
    others = f"(?!({only})$).*" if only else None
    return dag.test(logical_date=datetime(2026, 1, day, 3, tzinfo=UTC), mark_success_pattern=others)


def states(run) -> dict[str, tuple[str | None, int]]:
    return {ti.task_id: (ti.state, ti.try_number) for ti in run.get_task_instances()}


def test_dags_import_without_warnings_and_without_spark(bag, plan: dict[str, Any]) -> None:
    loaded = {"pyspark", "pandas", "pyarrow", "recsys_spark"} & set(sys.modules)
    assert (bag.import_errors, bag.captured_warnings, loaded) == ({}, {}, set())
    assert sorted(bag.dags) == ["recsys_consumer", "recsys_daily"]
    edges = {task.task_id: sorted(task.upstream_task_ids) for task in bag.dags["recsys_daily"].tasks}
    expected = {step["name"]: sorted(step["after"] or ["ready"]) for step in plan["steps"] if step["in_run"]}
    assert edges == expected | {"catalog": [], "ingest": ["catalog"], "ready": ["ingest"]}


def test_tasks_are_bounded_documented_and_only_publish_says_that_tables_are_there(dag, plan: dict[str, Any]) -> None:
    assert dag.max_active_runs == 1
    for task in dag.tasks:
        assert task.doc_md
        assert task.retries == 2
        assert task.max_active_tis_per_dag == 1
        assert task.trigger_rule == "all_success", "nothing runs after what has failed"
        assert {asset.name for asset in task.outlets} == (
            {f"recsys_{table}" for table in plan["published"]} if task.task_id == "publish" else set()
        )
        assert task.pool == ("recsys_publish" if task.task_id == "publish" else "default_pool")
    hours = {step["name"]: step["hours"] for step in plan["steps"]}
    assert all(dag.get_task(name).execution_timeout == timedelta(hours=n) for name, n in hours.items())


def test_a_date_with_a_crash_is_submitted_tried_again_and_published(
    dag, plan: dict[str, Any], submits: Submits, exits: Exits
) -> None:
    exits("als", "1")
    found = states(run_of(dag, 5))
    assert found.pop("als") == ("success", 2)
    assert set(found.values()) == {("success", 1)}
    calls = submits()
    assert len(calls) == len(plan["steps"]) + 1, "als twice"
    for call in calls:
        assert call[call.index("--master") + 1] == "local[2]"
        assert any(one.startswith("spark.executor.memoryOverheadFactor=") for one in call)
        assert call[call.index("--properties-file") + 1].endswith("conf/spark/local.conf")
        assert f"spark.pyspark.driver.python={os.environ['RECSYS_VENV']}/bin/python" in call
    assert {call[-1] for call in submits("cwd")} == {str(DAGS.parent)}, "relative paths mean the same for all"
    n_in_run = sum(step["in_run"] for step in plan["steps"])
    assert dates_of(calls) == ["2026-01-05"] * (n_in_run + 1)
    assert [call[:3] for call in submits("recsys-spark")] == [["ready", "--date", "2026-01-05"]]
    assert assets_with_events() == {f"recsys_{table}" for table in plan["published"]}


def dates_of(calls: list[list[str]]) -> list[str]:
    return [call[call.index("--date") + 1] for call in calls if "--date" in call]


def assets_with_events() -> set[str]:
    """What downstream DAGs were told of."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = session.query(AssetModel.name).join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
        return {name for (name,) in query}


def test_a_crash_fails_after_its_retries_and_what_a_retry_cannot_mend_at_once(
    dag, submits: Submits, exits: Exits
) -> None:
    """Of steps that do not wait for each other, on another date than the one above."""
    for step, codes in {"als": "1 1 1", "item_cf": "2 0 0", "two_tower": "3 0 0", "hindsight": "4 0 0"}.items():
        exits(step, codes)
    run = run_of(dag, 6)
    found = states(run)
    assert run.state == "failed"
    assert {name: found[name] for name in found if found[name][0] == "failed"} == {
        "als": ("failed", 3),
        "item_cf": ("failed", 1),
        "two_tower": ("failed", 1),
        "hindsight": ("failed", 1),
    }
    after = ("embed", "ann", "retrieve", "blend", "changes", "audit", "publish")
    assert {found[name][0] for name in after} == {"upstream_failed"}
    steps = [next(one for one in call if one.endswith(".py")).rpartition("/")[2] for call in submits()]
    assert sorted(steps) == [
        *("als.py", "als.py", "als.py", "catalog.py", "features.py", "hindsight.py", "index.py", "ingest.py"),
        *("interactions.py", "item_cf.py", "two_tower.py", "validate.py"),
    ]
    assert set(dates_of(submits())) == {"2026-01-06"}
    assert [call[:3] for call in submits("recsys-spark")] == [["ready", "--date", "2026-01-06"]]


@pytest.mark.parametrize("code", [1, 2, 3, 4])
def test_an_audit_that_does_not_end_well_publishes_nothing(dag, submits: Submits, exits: Exits, code: int) -> None:
    exits("audit", f"{code} {code} {code}")
    found = states(run_of(dag, 10 + code, only="audit|publish"))
    assert found["audit"] == ("failed", 3 if code == 1 else 1)
    assert found["publish"][0] == "upstream_failed"
    assert len(submits()) == (3 if code == 1 else 1)


def test_a_day_without_logs_is_skipped(dag, submits: Submits, exits: Exits) -> None:
    exits("ready", "3")
    run = run_of(dag, 20)
    found = states(run)
    assert run.state == "success"
    assert found["ready"][0] == "success"
    assert {found[name][0] for name in ("index", "hindsight", "publish")} == {"skipped"}
    assert len(submits()) == 2, "what lets logs in has run"


def test_a_broken_product_is_no_day_without_logs(dag, submits: Submits, exits: Exits) -> None:
    exits("ready", "2 0 0")
    assert states(run_of(dag, 21, only="ready"))["ready"] == ("failed", 1)
    exits("ready", "1 0")
    assert states(run_of(dag, 23, only="ready"))["ready"] == ("success", 2)
