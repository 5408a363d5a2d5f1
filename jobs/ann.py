"""spark-submit entry of the step `ann`; arguments are those of `recsys-spark step ann`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "ann", *sys.argv[1:]]))
