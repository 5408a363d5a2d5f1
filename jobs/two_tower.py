"""spark-submit entry of the step `two_tower`; arguments are those of `recsys-spark step two_tower`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "two_tower", *sys.argv[1:]]))
