"""Context manager of a command that writes: the lock, the tables, the Spark session, the metrics file at its end.

Owns: their order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys_spark.config.schema import Config


@contextmanager
def writing(config: "Config", command: str, step: str | None = None) -> "Iterator[SparkSession]":
    """The session of a command that writes: it holds the lock, beside other steps if it is `step`; all tables exist.

    However it ends, the metrics file is written, where [storage] names one.
    """
    from recsys_spark.features.declared import declared_tables
    from recsys_spark.operations.metrics_file import write_metrics
    from recsys_spark.plan import step as step_of
    from recsys_spark.plan import steps_before
    from recsys_spark.spark.session import log_startup, open_session
    from recsys_spark.warehouse.ledger import create_tables
    from recsys_spark.warehouse.locks import opening_lock, step_lock, warehouse_lock

    with (
        step_lock(config.root, step, steps_before(step_of(step)), command)
        if step
        else warehouse_lock(config.root, command)
    ):
        with opening_lock(config.root):  # steps that start together would make the same tables
            create_tables(config.root, declared_tables().values())
        spark = open_session(f"recsys-spark {command}", config.root)
        try:
            yield spark
        finally:
            log_startup(spark)
            spark.stop()
            if config.storage.metrics_file:
                write_metrics(config.root, Path(config.storage.metrics_file))
