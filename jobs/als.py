"""spark-submit entry of the step `als`; arguments are those of `recsys-spark step als`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "als", *sys.argv[1:]]))
