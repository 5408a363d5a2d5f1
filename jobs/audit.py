"""spark-submit entry of the step `audit`; arguments are those of `recsys-spark step audit`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "audit", *sys.argv[1:]]))
