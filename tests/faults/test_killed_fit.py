"""A real kill in the middle of a fit costs half an iteration, and nobody can tell from the factors."""

import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config_file import load_config
from recsys_spark.publish import history
from recsys_spark.run_ledger import latest_runs
from recsys_spark.runner import run_day
from recsys_spark.tables.delta_log import runs_with_rows
from recsys_spark.tables.delta_rs import table_path
from recsys_spark.tables.ledger import steps_of
from recsys_spark.tables.scratch import runs_with_scratch
from tests.run_process import end_run, start_run
from tests.small_shop import FIRST_DAY, land_catalogue, land_days, make_shop, write_settings

pytestmark = pytest.mark.slow

TIMEOUT_S = 600


def _shop(folder: Path, exchange: str):
    """A shop with four days of events, and its settings file."""
    config = make_shop(folder)
    settings = write_settings(config, folder)
    settings.write_text(f'{settings.read_text()}[als]\nfactors = 8\niterations = 4\nexchange = "{exchange}"\n')
    land_catalogue(config, FIRST_DAY)
    land_days(config, FIRST_DAY, 4)
    return config, settings


def _vectors(root: Path, table: str, run_id: str) -> dict[str, list[float]]:
    """Vectors of a run by id."""
    paths = Path(table_path(root, table)).glob(f"run_id={run_id}/*.parquet")
    rows = [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]
    return {row[f"{table.partition('_')[0]}_id"]: row["vector"] for row in rows}


def test_kill_between_two_halves_of_a_fit_is_gone_on_from_there(spark: SparkSession, tmp_path: Path) -> None:
    """Fault row 1."""
    config, settings = _shop(tmp_path, "shuffle")
    code, output = end_run(start_run(settings, "als.after_half:3"), TIMEOUT_S)
    assert code == -signal.SIGKILL, f"als.after_half:3 was not reached: {output}"
    assert history(config.root) == ()
    (run,) = latest_runs(config.root)
    assert run["state"] == "open"
    assert "als" not in steps_of(config.root, run["run_id"])
    assert runs_with_rows(config.root, "item_factors") == set()
    assert runs_with_scratch(config.root) == [run["run_id"]]
    code, output = end_run(start_run(settings), TIMEOUT_S)
    assert code == 0, output
    assert [row.run_id for row in history(config.root)] == [run["run_id"]]
    figures = steps_of(config.root, run["run_id"])["als"]["figures"]
    assert figures["n_resumed"] == 3.0
    assert list(config.root.glob("_scratch/*/als/*")) == []

    # The same date with shorter lists is a run of its own, from the same seed, that nobody interrupts.
    other = run_day(spark, load_config(file=settings, sets=("candidates.k=9",)))
    assert other.run_id != run["run_id"]
    assert figures == steps_of(config.root, other.run_id)["als"]["figures"] | {"n_resumed": 3.0}
    for table in ("user_factors", "item_factors"):
        found, uninterrupted = (_vectors(config.root, table, run_id) for run_id in (run["run_id"], other.run_id))
        assert found.keys() == uninterrupted.keys()
        assert len(found) >= 10
        for name, vector in uninterrupted.items():
            # The same halves of the same numbers; 1e-5 is what the fault matrix asks for.
            np.testing.assert_allclose(found[name], vector, rtol=0, atol=1e-5)
