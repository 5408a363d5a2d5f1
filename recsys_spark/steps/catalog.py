"""Ingest of catalogue snapshots: a row for every change of an item or a user, valid from a time on.

Owns: the entry point.  Called by the command line, the job `catalog` and the demo, which hold the lock of the
warehouse.
"""

from datetime import UTC, datetime

from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.steps.accounting import IngestReport
from recsys_spark.steps.ingest import ALL_FEEDS
from recsys_spark.steps.take_in import Intake, Observer, Request, ignore_progress, take_in


def ingest_catalogue(
    spark: SparkSession,
    config: Config,
    received_at: datetime | None = None,
    progress: Observer | None = None,
) -> IngestReport:
    """What was taken in of the snapshots in `landing.items` and `landing.users`.

    A row holds from its valid_from on; without one, from the date in the file's path; without that, from 1970 in the
    first catalogue and from received_at (now by default) later.  Raises GateRefused if too much is damaged.
    """
    intake = Intake(spark, config, ALL_FEEDS, progress or ignore_progress)
    return take_in(intake, Request(("items", "users"), False, received_at or datetime.now(UTC)))
