"""spark-submit entry of the step `ingest`; arguments are those of `recsys-spark step ingest`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "ingest", *sys.argv[1:]]))
