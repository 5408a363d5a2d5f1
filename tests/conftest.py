"""One Spark session for each process of a test run; a warehouse and settings for each test."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.warehouse.location import Location, locate
from tests import measurement
from tests.empty_warehouse import copy_empty_warehouse
from tests.fast_jvm import FAST_START, FEW_ROWS, SMALL_JVM
from tests.s3_server import CREDENTIALS, endpoint, s3_root  # noqa: F401 - fixtures of all tests
from tests.shop_day import shop_day  # noqa: F401 - likewise

# On a busy machine an example of a millisecond takes a quarter of a second now and then.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")

os.environ.update(CREDENTIALS)  # before a JVM or a worker is started, which take them from here

# Two attempts of a task, so that retries can be tested.
TEST_SETTINGS = FEW_ROWS | {
    "spark.master": "local[2,2]",
    # A task more costs more than what it does to a small frame.
    "spark.sql.shuffle.partitions": "2",
    # Sorts spill early, so that what depends on rows staying in order in memory is found.
    "spark.shuffle.spill.numElementsForceSpillThreshold": "2000",
    # A fifth of the CPU time of a test run was the optimising compiler's.
    "spark.driver.extraJavaOptions": FAST_START,
}

# Of the slow tests, the files that take longest, which would else leave one worker alone at the end.
LONGEST = ("test_benchmarks", "test_cluster", "test_airflow_project", "test_story", "test_killed_runs")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(measurement)


@pytest.fixture(scope="session")
def spark(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    from recsys_spark.spark.session import open_session

    settings, logs = dict(TEST_SETTINGS), tmp_path_factory.mktemp("logs")
    root: Location = logs
    if _is_slow_run(request.config):  # some are held against a time, over many rows
        settings["spark.driver.extraJavaOptions"] = SMALL_JVM
        root = locate("s3://any/warehouse")  # and one has its warehouse in an object store
    session = open_session("tests", root, settings, logs)
    yield session
    session.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty warehouse with all tables created."""
    folder = tmp_path / "warehouse"
    copy_empty_warehouse(folder)
    return folder


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """Settings of the defaults with `section.key=value` texts laid over them, stored below tmp_path."""

    def make(*sets: str) -> Config:
        landing = [f"landing.{feed}={tmp_path / 'landing' / feed}" for feed in ("events", "items", "users")]
        return load_config(sets=(f"storage.root={tmp_path / 'warehouse'}", *landing, *sets))

    return make


@pytest.fixture
def failpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Arms a failpoint that raises in this process; `none` disarms it."""

    def arm(name: str) -> None:
        monkeypatch.setenv("RECSYS_FAILPOINT", name)
        monkeypatch.setenv("RECSYS_FAILPOINT_ACTION", "raise")
        monkeypatch.setattr("recsys_spark.failpoint._passages", {})

    return arm


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts LONGEST first in a slow run, and kernels in a fast one; refuses names that differ from worker to worker.

    Such a name has an address of memory.  What numba compiles is kept in files: by the tests of kernels once, otherwise
    by every Python worker of Spark at the same time.
    """
    if unstable := [item.nodeid for item in items if re.search(" at 0x[0-9a-f]+>", item.nodeid)]:
        raise pytest.UsageError(
            f"expected names that are the same in every process, give ids=[...], got {', '.join(unstable)}"
        )
    if _is_slow_run(config):
        order = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: order.get(item.path.stem, len(LONGEST)))
    else:
        items.sort(key=lambda item: item.path.parent.name not in ("kernels", "numeric"))


def _is_slow_run(config: pytest.Config) -> bool:
    """Whether the tests that are marked as slow are asked for."""
    return config.option.markexpr.startswith(("slow", "soak"))
