"""The DAG's own tests, in the DAG's own environment: Airflow and Spark never share one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from pyspark.sql import SparkSession

from recsys_spark.cli.demo.logs import write_catalogue, write_events
from recsys_spark.cli.main import main
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.pipeline.publish import current_row
from recsys_spark.plan import PLAN
from tests.empty_warehouse import copy_empty_warehouse
from tests.fast_jvm import with_classes
from tests.published_content import published_content
from tests.whole_day import run_whole_day

ROOT = Path(__file__).parents[1]
# What would make uv or Spark take this environment for that one.
_OURS = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "SPARK_HOME", "PYSPARK_PYTHON", "PYTEST_ADDOPTS")


def run_suite(*arguments: str, answer: Callable[[], None] = lambda: None, **environment: str) -> None:
    """Runs the tests of the DAG; answer: called again and again meanwhile."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in _OURS and not name.startswith("AIRFLOW")
    }
    uv = os.environ.get("UV", "uv")
    command = [uv, "run", "--project", "airflow_dags", "--locked", "pytest", "airflow_dags/tests", "-q", *arguments]
    with TemporaryFile("w+") as output:
        suite = subprocess.Popen(command, cwd=ROOT, env=inherited | environment, stdout=output, stderr=output)
        try:
            while suite.poll() is None:
                answer()
                time.sleep(0.1)
        finally:
            suite.kill()
            suite.wait()
        output.seek(0)
        assert suite.returncode == 0, output.read()[-8000:]


def test_the_dag_does_what_exit_codes_ask_for() -> None:
    run_suite()


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


@pytest.mark.slow
def test_a_day_by_the_dag_is_the_day_of_a_run(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Jobs that are no drivers of their own are done here, by the command that they are, in this session.
    monkeypatch.setattr("recsys_spark.spark.session.open_session", lambda *_: spark)
    monkeypatch.setattr(spark, "stop", lambda: None)
    done: list[str] = []
    write_events(tmp_path / "landing", date(2009, 12, 1), DAY)
    write_catalogue(tmp_path / "landing", DAY)
    config = {name: shop_of(tmp_path, name) for name in ("by_dag", "by_hand")}
    given = {"RECSYS_REAL_FOLDER": str(tmp_path), "RECSYS_REAL_DAY": str(DAY), "RECSYS_REAL_VENV": sys.prefix}
    run_suite("-m", "slow", answer=lambda: do_jobs(tmp_path, done), JAVA_TOOL_OPTIONS=with_classes(), **given)
    assert {*done} == {step.name for step in PLAN} - {"catalog", "als", "publish"}
    copy_empty_warehouse(config["by_hand"].root)
    assert run_whole_day(spark, config["by_hand"], DAY).outcome == "published"
    assert published_content(config["by_dag"].root) == published_content(config["by_hand"].root)
    assert current_row(config["by_dag"].root).data_date == DAY


def do_jobs(folder: Path, done: list[str]) -> None:
    """Does what airflow_dags/tests/test_real_day.py asks for, with the exit codes of jobs; `done` gets their names."""
    for request in sorted(folder.glob("*.request")):
        job, *arguments = json.loads(request.read_text())
        done.append(Path(job).stem)
        part = request.with_suffix(".part")
        part.write_text(str(main(["step", Path(job).stem, *arguments])))
        request.unlink()
        part.rename(request.with_suffix(".answer"))


def shop_of(folder: Path, name: str) -> Config:
    """The settings of a shop whose logs land in `folder`, which are in `name`.toml there too."""
    path = folder / f"{name}.toml"
    path.write_text(SETTINGS.format(root=folder / name, landing=folder / "landing"))
    return load_config(file=path)
