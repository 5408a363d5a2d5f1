"""spark-submit entry of the step `item_cf`; arguments are those of `recsys-spark step item_cf`."""

import sys

from recsys_spark.cli.job import run_job

if __name__ == "__main__":
    sys.exit(run_job("step", "item_cf"))
