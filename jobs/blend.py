"""spark-submit entry of the step `blend`; arguments are those of `recsys-spark step blend`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "blend", *sys.argv[1:]]))
