"""A whole day in the session of the tests, as `recsys-spark run` does one: what is new is taken in, a date is run."""

from datetime import date

from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.ingest.step_ingest import ingest, ingest_catalogue
from recsys_spark.pipeline.runner import RunReport, run_day


def run_whole_day(spark: SparkSession, config: Config, day: date | None = None) -> RunReport:
    """Takes in the catalogue and the logs, and runs `day`; None is the day after the last event."""
    ingest_catalogue(spark, config)
    ingest(spark, config)
    return run_day(spark, config, day)
