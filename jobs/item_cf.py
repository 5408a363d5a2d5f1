"""spark-submit entry of the step `item_cf`; arguments are those of `recsys-spark step item_cf`."""

import sys

from recsys_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["step", "item_cf", *sys.argv[1:]]))
