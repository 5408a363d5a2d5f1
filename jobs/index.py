"""spark-submit entry of the step `index`; arguments are those of `recsys-spark step index`."""

import sys

from recsys_spark.cli.job import run_job

if __name__ == "__main__":
    sys.exit(run_job("step", "index"))
