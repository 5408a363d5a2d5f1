"""spark-submit entry of a whole day in one session; arguments are those of `recsys-spark run`."""

import sys

from recsys_spark.cli.job import run_job

if __name__ == "__main__":
    sys.exit(run_job("run"))
