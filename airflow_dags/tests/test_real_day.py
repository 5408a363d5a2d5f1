"""A day of a real shop by the DAG, through spark-submit, with a driver that is killed."""

import json
import os
import stat
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from conftest import DAGS

pytestmark = pytest.mark.slow

REAL = Path(os.environ.get("RECSYS_REAL_VENV", DAGS.parent / ".venv")) / "bin"
DAY = date(2010, 1, 6)  # five weeks of the shop's log are before it

SETTINGS = """
[storage]
root = "{root}"
[landing]
events = "{landing}/events"
items = "{landing}/items"
users = "{landing}/users"
[events.types.purchase]
[events.types.return]
weight = -1.0
[segments]
attribute = "country"
[als]
factors = 16
iterations = 3
[sources]
enabled = ["popular", "item_cf", "als"]
"""

# The logs of the days before DAY, and the catalogue; by the product's Python.
PREPARE = """
import sys
from datetime import date
from pathlib import Path
from recsys_spark.demo_logs import write_catalogue, write_events
landing, day = Path(sys.argv[1]), date.fromisoformat(sys.argv[2])
write_events(landing, date(2009, 12, 1), day)
write_catalogue(landing, day)
"""

# What is published: rows and content of every table, by the product's Python.
PUBLISHED = """
import json, sys
from pathlib import Path
from recsys_spark.publish import history
rows = history(Path(sys.argv[1]))
tables = {one.name: [one.n_rows, one.content_hash] for one in rows[-1].tables}
print(json.dumps([len(rows), str(rows[-1].data_date), tables]))
"""

# In place of spark-submit: the driver of the first attempt of `als` is killed when its first table is staged.
KILLS_ONCE = """#!/bin/sh
case "$*" in
  *jobs/als.py*) if [ ! -e "{marker}" ]; then touch "{marker}"; export RECSYS_FAILPOINT=stage.after_user_factors; fi ;;
esac
exec "{real}/spark-submit" "$@"
"""


def settings_of(folder: Path, landing: Path, name: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(SETTINGS.format(root=folder / name, landing=landing))
    return path


def by_product(code: str, *arguments: object) -> str:
    ended = subprocess.run(
        [REAL / "python", "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return ended.stdout


def programs(folder: Path) -> Path:
    """A folder like the product's environment, whose spark-submit kills once."""
    made = {name: f'#!/bin/sh\nexec "{REAL}/{name}" "$@"\n' for name in ("python", "recsys-spark")}
    made["spark-submit"] = KILLS_ONCE.format(marker=folder / "killed", real=REAL)
    (folder / "venv" / "bin").mkdir(parents=True)
    for name, text in made.items():
        path = folder / "venv" / "bin" / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder / "venv"


def test_a_day_by_the_dag_is_that_of_the_command_line(
    airflow_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_product(PREPARE, tmp_path / "landing", DAY)
    monkeypatch.setenv("RECSYS_VENV", str(programs(tmp_path)))
    monkeypatch.setenv("RECSYS_CONFIG", str(settings_of(tmp_path, tmp_path / "landing", "by_dag")))
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(str(DAGS)).dags["recsys_daily"]
    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=1)
    run = dag.test(logical_date=datetime(DAY.year, DAY.month, DAY.day, 3, tzinfo=UTC))
    found = {ti.task_id: (ti.state, ti.try_number) for ti in run.get_task_instances()}
    assert found.pop("als") == ("success", 2), "killed once, and taken up again"
    assert set(found.values()) == {("success", 1)}
    by_hand = settings_of(tmp_path, tmp_path / "landing", "by_hand")
    command = [REAL / "recsys-spark", "run", "--date", str(DAY), "--config", by_hand, "--json-logs"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    dag_published, published = (json.loads(by_product(PUBLISHED, tmp_path / name)) for name in ("by_dag", "by_hand"))
    assert dag_published == published
    assert published[:2] == [1, str(DAY)]
