"""The DAG's own tests, in the DAG's own environment: Airflow and Spark never share one."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.config_file import load_config
from recsys_spark.demo_logs import write_catalogue, write_events
from recsys_spark.publish import head
from tests.empty_warehouse import copy_empty_warehouse
from tests.fast_jvm import with_classes
from tests.published_content import published_content
from tests.whole_day import run_whole_day

ROOT = Path(__file__).parents[1]
# What would make uv or Spark take this environment for that one.
_OURS = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "SPARK_HOME", "PYSPARK_PYTHON", "PYTEST_ADDOPTS")


def run_suite(*arguments: str, **environment: str) -> None:
    inherited = {
        name: value for name, value in os.environ.items() if name not in _OURS and not name.startswith("AIRFLOW")
    }
    uv = os.environ.get("UV", "uv")
    ended = subprocess.run(
        [uv, "run", "--project", "airflow_dags", "--locked", "pytest", "airflow_dags/tests", "-q", *arguments],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]


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
def test_a_day_by_the_dag_is_the_day_of_a_run(spark: SparkSession, tmp_path: Path) -> None:
    write_events(tmp_path / "landing", date(2009, 12, 1), DAY)
    write_catalogue(tmp_path / "landing", DAY)
    config = {name: shop_of(tmp_path, name) for name in ("by_dag", "by_hand")}
    given = {"RECSYS_REAL_FOLDER": str(tmp_path), "RECSYS_REAL_DAY": str(DAY), "RECSYS_REAL_VENV": sys.prefix}
    run_suite("-m", "slow", JAVA_TOOL_OPTIONS=with_classes(), **given)
    copy_empty_warehouse(config["by_hand"].root)
    assert run_whole_day(spark, config["by_hand"], DAY).outcome == "published"
    assert published_content(config["by_dag"].root) == published_content(config["by_hand"].root)
    assert head(config["by_dag"].root).data_date == DAY


def shop_of(folder: Path, name: str) -> Config:
    """The settings of a shop whose logs land in `folder`, which are in `name`.toml there too."""
    path = folder / f"{name}.toml"
    path.write_text(SETTINGS.format(root=folder / name, landing=folder / "landing"))
    return load_config(file=path)
