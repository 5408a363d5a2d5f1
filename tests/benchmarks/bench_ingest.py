"""Step time of ingest for the whole log of the demo: a million lines of gzip JSONL, one file a day, on two cores.

    uv run python tests/benchmarks/bench_ingest.py [--folder DIR]

Beside it the least that any ingest must do: one thread that decompresses the same files and parses each line as JSON.
The last line is JSON: lines, files, ingest_s, parse_s (one thread), accounted (lines in = new + anonymous + duplicate +
quarantined for every file).
"""

import argparse
import gzip
import json
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from recsys_spark.config_file import load_config
from recsys_spark.demo import write_settings
from recsys_spark.demo_logs import write_events
from recsys_spark.features import declared_tables
from recsys_spark.session import open_session
from recsys_spark.steps.ingest import ingest
from recsys_spark.tables.catalog import INGEST_FILES
from recsys_spark.tables.ledger import create_tables, read_rows

FIRST, END = date(2009, 12, 1), date(2011, 12, 10)


def main() -> None:
    """Writes the log, parses it plainly, takes it in, and prints both sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="recsys-bench-"))
    config = load_config(file=write_settings(folder))
    create_tables(config.root, declared_tables().values())
    written = write_events(folder / "landing", FIRST, END)
    parse_s = _parse_plainly(folder / "landing" / "events")
    spark = open_session("bench ingest", folder)
    started = time.perf_counter()
    report = ingest(spark, config)
    ingest_s = time.perf_counter() - started
    spark.stop()
    files = read_rows(config.root, INGEST_FILES)
    sums = ("n_new", "n_anonymous", "n_duplicate", "n_quarantined", "n_continued")
    accounted = all(row["lines_in"] == sum(row[name] for name in sums) for row in files)
    for line in report.lines():
        print(line)
    print(f"{written.n_lines:,} lines in {written.n_files} files: ingest {ingest_s:.1f} s, plain parse {parse_s:.1f} s")
    figures = {"lines": written.n_lines, "files": len(files), "ingest_s": round(ingest_s, 1)}
    print(json.dumps(figures | {"parse_s": round(parse_s, 1), "accounted": accounted}))
    sys.exit(0 if accounted and len(files) == written.n_files else 1)


def _parse_plainly(events: Path) -> float:
    started = time.perf_counter()
    for path in sorted(events.rglob("*.gz")):
        with gzip.open(path, "rb") as lines:
            for line in lines:
                json.loads(line)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
