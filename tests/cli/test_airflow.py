"""The DAG files of the product in a folder of Airflow's."""

from pathlib import Path

import pytest

from recsys_spark.cli import main
from recsys_spark.cli.airflow import FILES

ROOT = Path(__file__).parents[2]


def test_airflow_writes_all_files_of_the_dag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["airflow", "--out", str(tmp_path / "dags")]) == 0
    kept = {path.name for path in (ROOT / "airflow_dags").iterdir() if path.suffix in (".py", ".json")}
    assert kept == set(FILES)
    for name in FILES:
        assert (tmp_path / "dags" / name).read_bytes() == (ROOT / "airflow_dags" / name).read_bytes()
    assert f"RECSYS_ROOT={ROOT}" in capsys.readouterr().out.replace("\n", "")
    (tmp_path / "file").touch()
    assert main.main(["airflow", "--out", str(tmp_path / "file")]) == 2
