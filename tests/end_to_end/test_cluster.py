"""A day on a Spark cluster that loses executors is the day of a laptop."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.tables import RUN_STEPS
from tests.conftest import TEST_SETTINGS
from tests.fast_jvm import FAST_START, FEW_ROWS, with_classes
from tests.published_content import published_content
from tests.run_process import end_run
from tests.small_shop import FIRST_DAY, land_days, make_shop, write_settings
from tests.standalone_cluster import (
    event_log,
    executors,
    pack,
    shuffled_bytes,
    standalone,
    submit_to_cluster,
)
from tests.whole_day import run_whole_day

pytestmark = pytest.mark.slow

# Towers are trained by the driver; executors, whose archive has no torch, embed and build the index.
TOWERS = """
[two_tower]
dim = 8
hidden = 16
n_buckets = 64
batch_size = 64
epochs = 2
device = "cpu"
"""
SOURCES = '["popular","item_cf","als","two_tower"]'

# What with_classes tells the driver, over conf/spark/cluster.conf and for the executors.
FAST = (f"spark.executor.extraJavaOptions={FAST_START}", *(f"{name}={value}" for name, value in FEW_ROWS.items()))
# Vectors of a batch are rounded as its length wants: equal bytes need the same partitions.
PARTITIONS = "4"


def settings_of(config: Config, folder: Path) -> Path:
    path = write_settings(config, folder, SOURCES)
    path.write_text(path.read_text() + TOWERS)
    return path


def killed_in_the_index(marker: Path) -> tuple[str, ...]:
    """Spark's properties by which an executor dies when its shard is nearly built; `marker` says that one did."""
    asked = {"": "ann.vectors_written", "_ACTION": "kill_executor", "_ONCE": marker}
    return tuple(f"spark.executorEnv.RECSYS_FAILPOINT{name}={value}" for name, value in asked.items())


def kill_an_executor(config: Config, run: subprocess.Popen[bytes], folder: Path) -> int:
    """Kills the JVM of one executor as soon as half an iteration of the ALS is done; its process number."""
    ends = time.monotonic() + 400
    while not any(config.root.glob("_scratch/*/als/half-*.json")):
        assert time.monotonic() < ends, "no half of an iteration was done"
        assert run.poll() is None, end_run(run)
        time.sleep(0.1)
    executor = executors(folder)[0]
    os.kill(executor, signal.SIGKILL)
    assert not any(row["step"] == "als" for row in read_rows(config.root, RUN_STEPS)), "killed too late"
    return executor


def test_a_day_on_a_cluster_is_that_of_a_laptop_though_executors_are_lost(spark: SparkSession, tmp_path: Path) -> None:
    archive = pack(tmp_path)
    shops = {name: make_shop(tmp_path / name) for name in ("cluster", "laptop")}
    for config in shops.values():
        land_days(config, FIRST_DAY, 3)
    settings = {name: settings_of(config, tmp_path / name) for name, config in shops.items()}
    with standalone(tmp_path) as url:
        given = (*event_log(tmp_path / "cluster_events"), *killed_in_the_index(tmp_path / "killed"), *FAST)
        run = submit_to_cluster(url, settings["cluster"], archive, *given, JAVA_TOOL_OPTIONS=with_classes())
        try:
            killed = kill_an_executor(shops["cluster"], run, tmp_path)
        finally:
            code, output = end_run(run)
    assert code == 0, output[-6000:]
    lost = set(re.findall(r"Lost executor (\d+)", output))
    assert len(lost) >= 2, f"{killed} in the ALS, another in the index; got {lost}"
    assert (tmp_path / "killed").exists()
    shuffled = shuffled_bytes(tmp_path / "cluster_events")
    print(f"shuffled: {shuffled} bytes")
    assert shuffled
    laptop = load_config(file=settings["laptop"])
    spark.conf.set("spark.sql.shuffle.partitions", PARTITIONS)
    assert run_whole_day(spark, laptop).outcome == "published"
    spark.conf.set("spark.sql.shuffle.partitions", TEST_SETTINGS["spark.sql.shuffle.partitions"])
    published = published_content(laptop.root)
    assert "ann_shards" in published
    assert published_content(shops["cluster"].root) == published
