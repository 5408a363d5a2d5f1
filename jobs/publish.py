"""spark-submit entry of the step `publish`; arguments are those of `recsys-spark step publish`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "publish", *sys.argv[1:]]))
