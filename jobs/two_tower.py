"""spark-submit entry of the step `two_tower`; arguments are those of `recsys-spark step two_tower`."""

import sys

from recsys_spark.cli.job import run_job

if __name__ == "__main__":
    sys.exit(run_job("step", "two_tower"))
