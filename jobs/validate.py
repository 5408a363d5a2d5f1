"""spark-submit entry of the step `validate`; arguments are those of `recsys-spark step validate`."""

import sys

from recsys_spark.cli.job import run_job

if __name__ == "__main__":
    sys.exit(run_job("step", "validate"))
