"""Whole days of a made log, step by step, beside an earlier commit in a worktree: what fusion and validation cost.

    uv run --group bench python tests/benchmarks/bench_day.py [--before TREE] [--rounds 1] [--users 60000] [--items
    27000]
                                                [--draws 3000000]

TREE is a worktree of an earlier commit with its environment (`uv sync` in it).  The log has 60,000 users and 27,000
items over 90 days, the last of them being the second day.
Beside TREE (rounds in turn): a first day with the sources popular, item_cf and als at the settings that were defaults
there, lists fused by reciprocal ranks in TREE, by scores here; ratio is of the seconds of `retrieve` and `blend`.  A
day of TREE may end after these: that of ea7139570f00 runs out of heap in its audit at this size.
Here: a first and a second day by the defaults; what `validate` takes of the seconds of all steps, when it chooses, and
when it reuses.
Seconds are those of the run ledger.  The last line is JSON: retrieve_blend_ratio (null without TREE),
retrieve_blend_s, before_s, validate_share, reused_share.  Exit status 1 above 1.5, .3 and .05.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from recsys_spark.warehouse.delta_rs import open_delta, table_path
from tests.benchmarks.planted import planted_interactions
from tests.benchmarks.report import finish, size_options

FIRST, N_DAYS = datetime(2025, 1, 1, tzinfo=UTC), 90
BOUNDS = {"retrieve_blend_ratio": 1.5, "validate_share": 0.3, "reused_share": 0.05}
SAME = """
[sources]
enabled = ["popular", "item_cf", "als"]
[sources.item_cf]
half_life_days = 30.0
[item_cf]
similarity = "jaccard"
shrinkage = 10.0
min_co_occurrence = 2
num_neighbors = 100
[als]
factors = 128
alpha = 2.0
regularization = 0.006
unobserved = 1.0
nu = 1.0
half_life_days = 30.0
[candidates]
method = "{method}"
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the log, runs the days, and prints what every step took."""
    parser = size_options(__doc__, rounds=1, users=60_000, items=27_000, draws=3_000_000)
    parser.add_argument("--before", type=Path, metavar="TREE", help="a worktree of an earlier commit")
    asked = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="recsys-bench-"))
    write_log(folder / "events", asked)
    here = Path(__file__).parents[2]
    figures: dict[str, float] = {}
    if asked.before:
        pairs = []
        for number in range(asked.rounds):
            sides = [
                day_of(tree, folder / f"{name}-{number}", folder / "events", N_DAYS - 1, SAME.format(method=method))
                for name, tree, method in (("before", asked.before.resolve(), "rrf"), ("now", here, "scores"))
            ]
            pairs.append(tuple(one["retrieve"] + one["blend"] for one in sides))
        figures["retrieve_blend_ratio"] = median(now / before for before, now in pairs)
        figures |= {name: median(one[at] for one in pairs) for at, name in enumerate(("before_s", "retrieve_blend_s"))}
    for name, last in (("validate_share", N_DAYS - 1), ("reused_share", N_DAYS)):
        seconds = day_of(here, folder / "defaults", folder / "events", last, "")
        figures[name] = seconds["validate"] / sum(seconds.values())
    kept = all(figures[name] <= bound for name, bound in BOUNDS.items() if name in figures)
    finish({name: round(value, 4) for name, value in figures.items()}, asked, within_bars=kept)


def write_log(folder: Path, asked: argparse.Namespace) -> None:
    """One file for each day, so that a day can be fed after another."""
    planted = planted_interactions(asked.users, asked.items, asked.draws)
    rng = np.random.default_rng(1)
    seconds = rng.integers(0, N_DAYS * 86_400, len(planted.users))
    log = pd.DataFrame(
        {
            "user_id": np.char.add("u", planted.users.astype(str)),
            "item_id": np.char.add("i", planted.items.astype(str)),
            "event_time": (pd.Timestamp(FIRST) + pd.to_timedelta(seconds, unit="s")).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
    print(f"{len(log):,} events of {asked.users:,} users and {asked.items:,} items", flush=True)
    folder.mkdir()
    for number, of_day in log.groupby(seconds // 86_400):
        of_day.to_json(folder / f"{number:03d}.jsonl", orient="records", lines=True)


def day_of(tree: Path, place: Path, events: Path, n_days: int, settings: str) -> dict[str, float]:
    """Seconds of every step of the run of the date after `n_days`, by the commands of `tree`."""
    landing = place / "landing"
    landing.mkdir(parents=True, exist_ok=True)
    for file in sorted(events.iterdir())[:n_days]:
        if not (landing / file.name).exists():
            (landing / file.name).hardlink_to(file)
    file = place / "recsys.toml"
    file.write_text(
        f'[storage]\nroot = "{place / "warehouse"}"\n[landing]\nevents = "{landing}"\nitems = ""\nusers = ""\n'
        f'[events]\ndefault_type = "had"\n[events.types.had]\nweight = 1.0\n{settings}'
    )
    day = (FIRST + timedelta(days=n_days)).date()
    here = tree == Path(__file__).parents[2]
    program = (Path(sys.executable).parent if here else tree / ".venv" / "bin") / "recsys-spark"
    command = [str(program), "run", "--date", str(day), "--config", str(file)]
    ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    ledger, seconds = table_path(place / "warehouse", "run_steps"), dict[str, float]()
    if ledger.exists():
        steps = open_delta(ledger).to_pyarrow_table().to_pandas()
        newest = steps[steps["run_id"] == steps["run_id"].max()]
        seconds = dict(zip(newest["step"], newest["seconds"].astype(float), strict=True))
    if ended.returncode and (here or "blend" not in seconds):
        raise SystemExit(f"{tree}: exit {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}")
    print(f"{tree.name} {day}: " + ", ".join(f"{name} {one:.1f}" for name, one in seconds.items()), flush=True)
    return seconds


if __name__ == "__main__":
    main()
