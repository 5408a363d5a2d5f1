"""A day of a real shop by the DAG, through spark-submit, with a driver that is killed.

What lets logs in, the step that is killed and the one that publishes are drivers of their own.  The other jobs, which
are started the same way, are done in the session of the tests that started this suite: a driver takes a minute.
"""

import os
import stat
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from conftest import DAGS

pytestmark = pytest.mark.slow

# In place of spark-submit: the driver of the first attempt of `als` is killed when its first table is staged.
SUBMIT = """#!/bin/sh
case "$*" in
  *jobs/als.py*)
    if [ ! -e "{folder}/killed" ]; then touch "{folder}/killed"; export RECSYS_FAILPOINT=stage.after_user_factors; fi
    exec "{real}/spark-submit" "$@" ;;
  *jobs/catalog.py*|*jobs/publish.py*) exec "{real}/spark-submit" "$@" ;;
esac
exec "{python}" "{folder}/ask.py" "$@"
"""

# Leaves a job and its arguments for the session of the tests, and ends with the exit code that it answers.
ASK = """
import json, sys, time
from pathlib import Path
job = next(at for at, one in enumerate(sys.argv) if Path(one).parent.name == "jobs")
request = Path(__file__).with_name(f"{time.time_ns()}.request")
part = request.with_suffix(".part")
part.write_text(json.dumps(sys.argv[job:]))
part.rename(request)
answer = request.with_suffix(".answer")
while not answer.exists():
    time.sleep(0.05)
sys.exit(int(answer.read_text()))
"""


def programs(folder: Path) -> Path:
    """A folder like the product's environment, whose spark-submit kills once and asks for what is no driver."""
    real = Path(os.environ["RECSYS_REAL_VENV"]) / "bin"
    made = {name: f'#!/bin/sh\nexec "{real}/{name}" "$@"\n' for name in ("python", "recsys-spark")}
    made["spark-submit"] = SUBMIT.format(folder=folder, real=real, python=sys.executable)
    (folder / "ask.py").write_text(ASK)
    (folder / "venv" / "bin").mkdir(parents=True)
    for name, text in made.items():
        path = folder / "venv" / "bin" / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder / "venv"


def test_a_day_by_the_dag_takes_up_what_was_killed(airflow_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """RECSYS_REAL_FOLDER has `by_dag.toml`, the settings of a shop whose logs have landed; RECSYS_REAL_DAY is the date,
    RECSYS_REAL_VENV the product's environment.

    tests/test_airflow_project.py gives them, answers what is asked, and holds what is published against a run without
    Airflow.
    """
    folder, day = Path(os.environ["RECSYS_REAL_FOLDER"]), date.fromisoformat(os.environ["RECSYS_REAL_DAY"])
    monkeypatch.setenv("RECSYS_VENV", str(programs(folder)))
    monkeypatch.setenv("RECSYS_CONFIG", str(folder / "by_dag.toml"))
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(str(DAGS)).dags["recsys_daily"]
    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=1)
    run = dag.test(logical_date=datetime(day.year, day.month, day.day, 3, tzinfo=UTC))
    found = {ti.task_id: (ti.state, ti.try_number) for ti in run.get_task_instances()}
    assert found.pop("als") == ("success", 2), "killed once, and taken up again"
    assert set(found.values()) == {("success", 1)}
