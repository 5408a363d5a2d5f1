"""spark-submit entry of the step `embed`; arguments are those of `recsys-spark step embed`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "embed", *sys.argv[1:]]))
