"""Comparison of two commits by the tables that they make: content hashes of every table, run by run.

    git worktree add ../before COMMIT && uv run --project ../before true
    uv run --group dev python -m tests.same_tables --before ../before [--demo]

A small shop has two days and then a backfill of a date before them, with every source and the towers; --demo adds the
date of the demo.  Both trees read the same files by the commands of their own.  Columns that name another run are left
out where hashes differ, for its name depends on the code.  The last line is JSON: tables compared and those that
differ.  Exit status 1 if any does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pyarrow.compute as pc

from recsys_spark.warehouse.delta_rs import open_delta, table_path
from tests.small_shop import FIRST_DAY, land_catalogue, land_days, make_shop

HERE = Path(__file__).parents[1]
N_DAYS = 12  # landed before the newer date; the older is one day earlier, the backfill two
SETTINGS = """
[segments]
attribute = "country"
[sources]
enabled = ["popular", "item_cf", "als", "low_pass", "successors", "content", "user_cf", "two_tower"]
[sources.popular]
min_segment_users = 2
[candidates]
k = 10
[candidates.explore]
share = 0.1
[validation]
min_users = 10
[two_tower]
dim = 8
hidden = 16
epochs = 2
threads = 1
device = "cpu"
"""


@dataclass(frozen=True)
class Stored:
    """A table of a run: equal to another of as many rows and the same content hash."""

    n_rows: int
    content_hash: str
    warehouse: Path = field(compare=False)
    name: str = field(compare=False)
    run_id: str = field(compare=False)


def main() -> None:
    """Runs both trees and prints what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, metavar="TREE")
    parser.add_argument("--demo", action="store_true")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="recsys-same-"))
    config = make_shop(folder)
    land_catalogue(config, FIRST_DAY)
    land_days(config, FIRST_DAY, N_DAYS)
    found: list[dict[str, Stored]] = []
    for tree in (asked.before.resolve(), HERE):
        place = folder / f"{len(found)}-{tree.name}"
        place.mkdir()
        found.append(shop(tree, place, folder / "landing"))
        if asked.demo:
            # An earlier demo trained the towers without being asked.
            towers = ["--towers"] if (tree / "recsys_spark" / "cli" / "demo").is_dir() else []
            run(tree, "demo", "--folder", str(place / "demo"), *towers)
            (demo,) = (place / "demo").glob("**/tables")
            found[-1] |= {f"demo {name}": value for name, value in hashes(demo.parent).items()}
    before, now = found
    hashed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    differ = [
        name for name in hashed if name not in before or name not in now or not same_rows(before[name], now[name])
    ]
    print(json.dumps({"compared": len(before), "differ": differ}), flush=True)
    sys.exit(bool(differ) or not before)


def shop(tree: Path, place: Path, landing: Path) -> dict[str, Stored]:
    """What was stored by date and table after two days and a backfill."""
    file, feeds = place / "recsys.toml", ("events", "items", "users")
    landed = "\n".join(f'{feed} = "{landing / feed}"' for feed in feeds)
    file.write_text(f'[storage]\nroot = "{place / "warehouse"}"\n[landing]\n{landed}\n{SETTINGS}')
    last = FIRST_DAY + timedelta(days=N_DAYS)
    for day in (last - timedelta(days=1), last):
        run(tree, "run", "--date", str(day), "--config", str(file))
    older = str(last - timedelta(days=2))
    run(tree, "backfill", "--from", older, "--to", older, "--config", str(file))
    return hashes(place / "warehouse")


def run(tree: Path, *command: str) -> None:
    """Runs a command of the tree; ends this program if it fails."""
    program = tree / ".venv" / "bin" / "recsys-spark"
    ended = subprocess.run([program, *command], cwd=tree, capture_output=True, text=True, check=False)
    print(f"{tree.name}: {' '.join(command)}: exit {ended.returncode}", flush=True)
    if ended.returncode:
        raise SystemExit(f"{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}")


def hashes(warehouse: Path) -> dict[str, Stored]:
    """Rows and content hash of every table of every run, by date and table; a step that ran again counts last."""
    steps = open_delta(table_path(warehouse, "run_steps")).to_pyarrow_table().to_pandas()
    found = {}
    for row in steps.sort_values("recorded_at").itertuples():
        n_rows = dict(row.n_rows)
        for name, value in dict(row.content_hashes).items():
            found[f"{row.run_id[:8]} {name}"] = Stored(int(n_rows[name]), value, warehouse, name, row.run_id)
    return found


def same_rows(one: Stored, other: Stored) -> bool:
    """Whether two tables have the same rows but for columns that name a run; rows are compared as text."""
    tables = []
    for stored in (one, other):
        rows = open_delta(table_path(stored.warehouse, stored.name)).to_pyarrow_table()
        rows = rows.filter(pc.equal(rows["run_id"], stored.run_id))
        names = [name for name in rows.column_names if not name.endswith("run_id")]
        tables.append(sorted(str(row) for row in rows.select(names).to_pylist()))
    return tables[0] == tables[1]


if __name__ == "__main__":
    main()
