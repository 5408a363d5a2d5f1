"""What the programs here share: the options that set their size, and the last line that they print.

A program has `main(argv)`, which ends with `finish`.  Bars of time and quality are meant for the default sizes: with
`--no-bars` they leave the exit status alone; what must be equal counts at every size.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np


def size_options(doc: str | None, **sizes: int) -> argparse.ArgumentParser:
    """A parser whose help is `doc`, with an option for each of `sizes`, whole numbers with these defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{default:,} by default")
    parser.add_argument("--no-bars", action="store_true", help="exit status 0 though times or quality miss their bars")
    return parser


def finish(
    figures: Mapping[str, Any], asked: argparse.Namespace, right: bool = True, within_bars: bool = True
) -> NoReturn:
    """Prints the last line and ends the program: with 1 if it is not right, or misses bars that count."""
    print(last_line(figures), flush=True)
    sys.exit(0 if right and (within_bars or asked.no_bars) else 1)


def last_line(figures: Mapping[str, Any]) -> str:
    """`figures` as one line of strict JSON: numpy's numbers as plain ones, null for what is no number."""
    return json.dumps(plain(figures), allow_nan=False)


def plain(value: Any) -> Any:
    """The value in what JSON has; a key is made a text."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
