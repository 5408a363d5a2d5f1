"""One Spark session for a whole test run; a warehouse and settings for each test."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.config_file import load_config
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.ledger import create_tables

# The faster compiler alone shortens short jobs by a third; two attempts of a task, so that retries can be tested.
TEST_SETTINGS = {"spark.master": "local[2,2]", "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"}


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    from recsys_spark.session import open_session

    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "recsys-spark" / "numba"))
    session = open_session("tests", tmp_path_factory.mktemp("logs") / "spark.log", extra=TEST_SETTINGS)
    yield session
    session.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty warehouse with all tables created."""
    folder = tmp_path / "warehouse"
    create_tables(folder, TABLES.values())
    return folder


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """Settings of the defaults with `section.key=value` texts laid over them, stored below tmp_path."""

    def make(*sets: str) -> Config:
        base = (f"storage.root={tmp_path / 'warehouse'}",) + tuple(
            f"landing.{feed}={tmp_path / 'landing' / feed}" for feed in ("events", "items", "users")
        )
        return load_config(sets=base + sets)

    return make
