"""Step time of ingest for the whole log of the demo: a million lines of gzip JSONL, one file a day, on two cores.

    uv run --group bench python tests/benchmarks/bench_ingest.py [--from 2009-12-01] [--to 2011-12-10] [--folder DIR]

Beside it the least that any ingest must do: one thread that decompresses the same files and parses each line as JSON.
The last line is JSON: lines, files, ingest_s, parse_s (one thread), accounted (lines in = new + anonymous + duplicate +
quarantined for every file).  Exit status 1 if they are not.
"""

import gzip
import json
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from recsys_spark.cli.demo.logs import write_events
from recsys_spark.cli.demo.story import write_settings
from recsys_spark.config.load import load_config
from recsys_spark.features.declared import declared_tables
from recsys_spark.ingest.step_ingest import ingest
from recsys_spark.spark.session import open_session
from recsys_spark.warehouse.ledger import create_tables, read_rows
from recsys_spark.warehouse.tables import INGEST_FILES
from tests.benchmarks.report import finish, size_options


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the log, parses it plainly, takes it in, and prints both sides."""
    parser = size_options(__doc__)
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2009, 12, 1))
    parser.add_argument("--to", dest="end", type=date.fromisoformat, default=date(2011, 12, 10), help="not included")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    asked = parser.parse_args(argv)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="recsys-bench-"))
    config = load_config(file=write_settings(folder))
    create_tables(config.root, declared_tables().values())
    written = write_events(folder / "landing", asked.first, asked.end)
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
    figures |= {"parse_s": round(parse_s, 1), "accounted": accounted}
    finish(figures, asked, right=accounted and len(files) == written.n_files)


def _parse_plainly(events: Path) -> float:
    started = time.perf_counter()
    for path in sorted(events.rglob("*.gz")):
        with gzip.open(path, "rb") as lines:
            for line in lines:
                json.loads(line)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
