"""How well the tests protect the code: faults are put into copies of the tree, and the tests should notice.

    uv run --group dev python -m tests.mutants auto                     a sample of 160 small faults, without Spark; 20
    minutes uv run --group dev python -m tests.mutants auto --json before.json  keeps each result; called again, it goes
    on uv run --group dev python -m tests.mutants auto --of before.json --json after.json    the same faults, later uv
    run --group dev python -m tests.mutants hand                     the faults described in `hand/AREA-NAME.toml` uv
    run --group dev python -m tests.mutants hand --area als          those of one area; or give names

Neither is part of the test suite; of it, `tests/test_mutants.py` checks that the descriptions fit the code.  Survivors
are listed with the tests that ran, and the last line of the output is JSON.  `auto` leaves out modules whose tests need
Spark or take longer than ten seconds, and names them; a kernel of numba runs interpreted where that is quicker.
"""

import argparse
import signal
import sys
from pathlib import Path

from tests.mutants.auto import run_auto
from tests.mutants.hand_run import run_hand


def main() -> int:
    """The exit status of the command that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)
    auto = commands.add_parser("auto", help="a random sample of small faults in code whose tests need no Spark")
    auto.add_argument("-n", type=int, default=160, help="how many")
    auto.add_argument("--seed", type=int, default=0)
    auto.add_argument("--of", type=Path, metavar="FILE", help="the faults of an earlier --json, instead of a sample")
    auto.set_defaults(run=run_auto)
    hand = commands.add_parser("hand", help="faults described by hand; exit status 1 if one survived")
    hand.add_argument("names", nargs="*", metavar="NAME", help="AREA-NAME of the file; all if none is given")
    hand.add_argument("--area")
    hand.add_argument("--timeout", type=float, default=240, help="seconds for each")
    hand.add_argument("--no-baseline", action="store_true", help="do not first run the tests on unchanged code")
    hand.set_defaults(run=run_hand)
    for one in (auto, hand):
        one.add_argument("--workers", type=int, default=2)
        one.add_argument("--json", type=Path, metavar="FILE", help="keep all results; go on with those in it")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended, and the copies are deleted
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
