"""The DAG without Spark: it imports, holds the plan together, and does what exit codes ask for."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from conftest import DAGS

Submits = Callable[..., list[list[str]]]

IMPORT = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(sys.argv[1], bundle_path=Path(sys.argv[1]), bundle_name="dags")
edges = {task.task_id: sorted(task.upstream_task_ids) for task in bag.dags["recsys_daily"].tasks}
loaded = sorted({"pyspark", "pandas", "pyarrow", "recsys_spark"} & set(sys.modules))
print(json.dumps([bag.import_errors, [str(one) for one in bag.captured_warnings], sorted(bag.dags), edges, loaded]))
"""


@pytest.fixture(scope="module")
def dag(airflow_db: None):
    from recsys_daily import dag

    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=1)
    return dag


def run_of(dag, day: int):
    return dag.test(logical_date=datetime(2026, 1, day, 3, tzinfo=UTC))


def states(run) -> dict[str, tuple[str | None, int]]:
    return {ti.task_id: (ti.state, ti.try_number) for ti in run.get_task_instances()}


def test_dags_import_without_warnings_and_without_spark(airflow_db: None) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT, str(DAGS)], cwd="/", capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    errors, warnings, dags, edges, loaded = json.loads(ended.stdout.splitlines()[-1])
    assert (errors, warnings, loaded) == ({}, [], [])
    assert dags == ["recsys_consumer", "recsys_daily"]
    plan = json.loads((DAGS / "plan.json").read_text())
    expected = {step["name"]: sorted(step["after"] or ["ready"]) for step in plan["steps"] if step["in_run"]}
    assert edges == expected | {"catalog": [], "ingest": ["catalog"], "ready": ["ingest"]}


def test_tasks_are_bounded_documented_and_only_publish_says_that_tables_are_there(dag) -> None:
    plan = json.loads((DAGS / "plan.json").read_text())
    assert dag.max_active_runs == 1
    for task in dag.tasks:
        assert task.doc_md
        assert task.retries == 2
        assert task.max_active_tis_per_dag == 1
        assert {asset.name for asset in task.outlets} == (
            {f"recsys_{table}" for table in plan["published"]} if task.task_id == "publish" else set()
        )
        assert task.pool == ("recsys_publish" if task.task_id == "publish" else "default_pool")
    hours = {step["name"]: step["hours"] for step in plan["steps"]}
    assert all(dag.get_task(name).execution_timeout == timedelta(hours=n) for name, n in hours.items())


def test_three_dates_are_submitted_with_their_own_date(dag, submits: Submits) -> None:
    plan = json.loads((DAGS / "plan.json").read_text())
    for day in (5, 6, 7):
        assert {state for state, _ in states(run_of(dag, day)).values()} == {"success"}
    calls = submits()
    assert len(calls) == 3 * len(plan["steps"])
    for call in calls:
        assert call[call.index("--master") + 1] == "local[2]"
        assert any(one.startswith("spark.executor.memoryOverheadFactor=") for one in call)
        assert call[call.index("--properties-file") + 1].endswith("conf/spark/local.conf")
        assert f"spark.pyspark.driver.python={os.environ['RECSYS_VENV']}/bin/python" in call
    assert {call[-1] for call in submits("cwd")} == {str(DAGS.parent)}, "relative paths mean the same for all"
    dates = [call[call.index("--date") + 1] for call in calls if "--date" in call]
    n_in_run = sum(step["in_run"] for step in plan["steps"])
    assert dates == [f"2026-01-0{day}" for day in (5, 6, 7) for _ in range(n_in_run)]
    assert [call[:3] for call in submits("recsys-spark")] == [
        ["ready", "--date", f"2026-01-0{day}"] for day in (5, 6, 7)
    ]


def test_a_crash_is_tried_again_and_the_day_goes_on(dag, submits: Submits, exits: Callable[[str, str], None]) -> None:
    exits("als", "1")
    found = states(run_of(dag, 8))
    assert found["als"] == ("success", 2)
    assert found["publish"] == ("success", 1)


def test_a_crash_fails_after_its_retries_and_nothing_is_published(
    dag, submits: Submits, exits: Callable[[str, str], None]
) -> None:
    exits("als", "1 1 1")
    run = run_of(dag, 9)
    found = states(run)
    assert run.state == "failed"
    assert found["als"] == ("failed", 3)
    assert found["publish"][0] == "upstream_failed"


@pytest.mark.parametrize("code", [2, 3, 4])
def test_what_a_retry_cannot_mend_fails_at_once(
    dag, submits: Submits, exits: Callable[[str, str], None], code: int
) -> None:
    exits("audit", f"{code} 0 0")
    found = states(run_of(dag, 10 + code))
    assert found["audit"] == ("failed", 1)
    assert found["publish"][0] == "upstream_failed"
    assert sum("audit.py" in one for call in submits() for one in call) == 1


def test_a_day_without_logs_is_skipped(dag, submits: Submits, exits: Callable[[str, str], None]) -> None:
    exits("ready", "3")
    run = run_of(dag, 20)
    found = states(run)
    assert run.state == "success"
    assert found["ready"][0] == "success"
    assert {found[name][0] for name in ("index", "hindsight", "publish")} == {"skipped"}
    assert len(submits()) == 2, "what lets logs in has run"


def test_a_broken_product_is_no_day_without_logs(dag, submits: Submits, exits: Callable[[str, str], None]) -> None:
    exits("ready", "2 0 0")
    assert states(run_of(dag, 21))["ready"] == ("failed", 1)
    exits("ready", "1 0")
    assert states(run_of(dag, 23))["ready"] == ("success", 2)


def test_publishing_tells_downstream_dags(dag, submits: Submits) -> None:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    run_of(dag, 22)
    with create_session() as session:
        names = {
            name for (name,) in session.query(AssetModel.name).join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
        }
    assert "recsys_candidates" in names
