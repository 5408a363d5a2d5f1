"""Takes in what has landed: event logs and catalogue snapshots, each file and each row once.

Owns: the steps `ingest` and `catalog`, which run under the lock of the warehouse.
"""

from datetime import UTC, datetime

from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.ingest.accounting import IngestReport
from recsys_spark.ingest.catalogue import CATALOGUE_FEEDS
from recsys_spark.ingest.events import EVENT_FEED
from recsys_spark.ingest.take_in import Intake, Request, ignore_progress, take_in
from recsys_spark.plan import Observer

ALL_FEEDS = {"events": EVENT_FEED, **CATALOGUE_FEEDS}


def ingest_catalogue(
    spark: SparkSession,
    config: Config,
    received_at: datetime | None = None,
    progress: Observer | None = None,
) -> IngestReport:
    """Takes in the snapshots of `landing.items` and `landing.users`, and returns the report.

    A row holds from its valid_from on; without one, from the date in the file's path; without that, from 1970 in the
    first catalogue and from received_at (now by default) later.  Raises GateRefused if too much is damaged.
    """
    intake = Intake(spark, config, ALL_FEEDS, progress or ignore_progress)
    return take_in(intake, Request(("items", "users"), False, received_at or datetime.now(UTC)))


def ingest(
    spark: SparkSession,
    config: Config,
    history: bool = False,
    received_at: datetime | None = None,
    progress: Observer | None = None,
) -> IngestReport:
    """Takes in the files of `landing.events`, each file and each event once, and returns the report.

    history: accept events of any age.  received_at: when the files arrived, now by default; later events are future.
    Raises GateRefused if too many files or lines are damaged.
    """
    intake = Intake(spark, config, ALL_FEEDS, progress or ignore_progress)
    return take_in(intake, Request(("events",), history, received_at or datetime.now(UTC)))
