"""spark-submit entry of the step `hindsight`; arguments are those of `recsys-spark step hindsight`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "hindsight", *sys.argv[1:]]))
