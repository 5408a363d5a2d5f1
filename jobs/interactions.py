"""spark-submit entry of the step `interactions`; arguments are those of `recsys-spark step interactions`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "interactions", *sys.argv[1:]]))
