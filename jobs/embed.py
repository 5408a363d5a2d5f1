"""spark-submit entry of the step `embed`; arguments are those of `recsys-spark step embed`."""

import sys

from recsys_spark.cli.job import run_job

if __name__ == "__main__":
    sys.exit(run_job("step", "embed"))
