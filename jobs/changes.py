"""spark-submit entry of the step `changes`; arguments are those of `recsys-spark step changes`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "changes", *sys.argv[1:]]))
