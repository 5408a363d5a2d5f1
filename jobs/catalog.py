"""spark-submit entry of the step `catalog`; arguments are those of `recsys-spark step catalog`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "catalog", *sys.argv[1:]]))
