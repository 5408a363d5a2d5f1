"""spark-submit entry of the step `publish`; arguments are those of `recsys-spark step publish`."""

import sys

from recsys_spark.cli.job import run_job

if __name__ == "__main__":
    sys.exit(run_job("step", "publish"))
