"""spark-submit entry of the step `index`; arguments are those of `recsys-spark step index`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "index", *sys.argv[1:]]))
