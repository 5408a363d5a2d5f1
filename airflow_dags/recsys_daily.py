"""`recsys_daily`: one day of recsys-spark, a task per step of `plan.json`, each by spark-submit.

The environment of Airflow's processes says where things are:

- `RECSYS_ROOT`: the checkout with jobs/ and conf/; by default the folder above this one.
- `RECSYS_VENV`: the Python environment in which recsys-spark is installed; by default `.venv` in the checkout.
- `RECSYS_CONFIG`: your settings file; by default none, then those of the profile hold.
- `RECSYS_PROFILE`: profile of settings, by default `local`.
- `RECSYS_SPARK_PROPERTIES`: Spark's properties; by default conf/spark/local.conf.
- `RECSYS_PARALLEL_STEPS`: steps of a day that may run at once, by default 1: each has a driver of its own, which on one
  machine takes 2 cores and up to 4 GB.

Relative paths in settings are relative to the checkout.

The master is that of the connection `spark_default`, as JSON: `{"conn_type": "spark", "host": "local[2]"}`.  The pool
`recsys_publish` must have one slot: `airflow pools set recsys_publish 1 "one publish at a time"`.
"""

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import DAG, Asset, CronTriggerTimetable
from airflow.sdk.exceptions import AirflowFailException
from recsys_submit import FINAL_CODES, RecsysSubmitOperator

HERE = Path(__file__).resolve().parent
ROOT = Path(os.environ.get("RECSYS_ROOT", HERE.parent))
BIN = Path(os.environ.get("RECSYS_VENV", ROOT / ".venv")) / "bin"
PROPERTIES = os.environ.get("RECSYS_SPARK_PROPERTIES", str(ROOT / "conf" / "spark" / "local.conf"))
SETTINGS = ["--profile", os.environ.get("RECSYS_PROFILE", "local")]
if os.environ.get("RECSYS_CONFIG"):
    SETTINGS += ["--config", os.environ["RECSYS_CONFIG"]]

PLAN = json.loads((HERE / "plan.json").read_text(encoding="utf-8"))

# The as-of day: events before it, 00:00 UTC, count.  A manual run may have no logical date.
DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"

READY, REFUSED = 0, 3


def is_ready(date: str) -> bool:
    """Whether there are events of the day before `date`; `recsys-spark ready` says so by its exit code."""
    command = [str(BIN / "recsys-spark"), "ready", "--date", date, *SETTINGS]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(ended.stdout, ended.stderr)  # noqa: T201 - a task's log
    if ended.returncode in FINAL_CODES and ended.returncode != REFUSED:
        raise AirflowFailException(f"ready: exit {ended.returncode}: {FINAL_CODES[ended.returncode]}")
    if ended.returncode not in (READY, REFUSED):
        raise RuntimeError(f"recsys-spark ready: expected exit 0 or 3, got {ended.returncode}: {ended.stderr}")
    return ended.returncode == READY


def submit(step: dict) -> RecsysSubmitOperator:
    """The task of a step."""
    publishes = step["name"] == "publish"
    return RecsysSubmitOperator(
        task_id=step["name"],
        folder=str(ROOT),
        conn_id="spark_default",
        application=str(ROOT / "jobs" / f"{step['name']}.py"),
        application_args=["--json-logs", *(["--date", DATE] if step["in_run"] else []), *SETTINGS],
        properties_file=PROPERTIES,
        # The driver runs here; executors of a cluster may have a Python of their own.
        conf=step["conf"] | {"spark.pyspark.driver.python": str(BIN / "python")},
        name=f"recsys-{step['name']}-{DATE}",
        spark_binary=str(BIN / "spark-submit"),
        env_vars={"PYSPARK_PYTHON": str(BIN / "python")},
        execution_timeout=timedelta(hours=step["hours"]),
        doc_md=step["doc"],
        pool="recsys_publish" if publishes else "default_pool",
        # A downstream DAG waits for a table; it is there when it is published, not when its step is done.
        outlets=[Asset(f"recsys_{table}") for table in PLAN["published"]] if publishes else [],
    )


with DAG(
    dag_id="recsys_daily",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 3 * * *", timezone="UTC"),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),  # Airflow runs no task for a date before it
    catchup=False,
    max_active_runs=1,
    max_active_tasks=int(os.environ.get("RECSYS_PARALLEL_STEPS", "1")),
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        # Backfills are not counted by max_active_runs.
        "max_active_tis_per_dag": 1,
    },
    tags=["recsys"],
) as dag:
    ready = ShortCircuitOperator(
        task_id="ready",
        python_callable=is_ready,
        op_args=[DATE],
        doc_md="Are there events of the day before?  Without any the rest of the day is skipped.",
    )
    tasks = {step["name"]: submit(step) for step in PLAN["steps"]}
    tasks["catalog"] >> tasks["ingest"] >> ready
    for step in PLAN["steps"]:
        if step["in_run"]:
            ([tasks[name] for name in step["after"]] or [ready]) >> tasks[step["name"]]
