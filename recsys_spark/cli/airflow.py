"""The command `recsys-spark airflow`: writes the DAG files into a folder that Airflow reads.

Owns: which files those are, and the environment variables that a DAG outside of a checkout needs.
"""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from recsys_spark import shipped
from recsys_spark.cli.console import Console
from recsys_spark.errors import ArgumentError

FILES = ("recsys_daily.py", "recsys_submit.py", "recsys_consumer.py", "plan.json")


def airflow(folder: Annotated[Path, typer.Option("--out", help="Folder of Airflow's DAGs.")]) -> None:
    """Write the Airflow DAG, its operator and its plan into a folder of DAGs."""
    source = shipped("airflow_dags")
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"--out: expected a folder, got {folder}, which is a file; give another")
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(source / name, folder / name)
    console = Console(json_logs=False)
    console.say(
        f"{folder}: {', '.join(FILES)}; give Airflow's processes these variables, and absolute paths in your settings:"
    )
    for name, value in (("RECSYS_ROOT", source.parent), ("RECSYS_VENV", Path(sys.prefix))):
        console.say(f"  {name}={value}")
