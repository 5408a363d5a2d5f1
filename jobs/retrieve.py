"""spark-submit entry of the step `retrieve`; arguments are those of `recsys-spark step retrieve`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "retrieve", *sys.argv[1:]]))
