"""spark-submit entry of the step `features`; arguments are those of `recsys-spark step features`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "features", *sys.argv[1:]]))
