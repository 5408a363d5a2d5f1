"""A day of Online Retail II on a Spark cluster of this machine against the same day on local[2].

    uv run python tests/benchmarks/bench_cluster.py [--from 2010-06-01] [--to 2010-11-30] [--folder DIR]

The cluster is a standalone master and two workers of one core on the loopback address; executors unpack the archive of
`recsys-spark package`.  Both sides are `spark-submit jobs/run.py`, from the start of spark-submit to its end, with
popular, item-item CF and ALS, over the same files, each with the properties of its profile (conf/spark).  Not in the
seconds: the archive is packed before.
The last line is JSON: cluster_s, local_s, ratio, cluster_shuffled_mb, local_shuffled_mb, and differs, the tables whose
content differs.  Exit status 1 if one does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from recsys_spark.demo_logs import write_catalogue, write_events
from recsys_spark.publish import history
from tests.run_process import end_run
from tests.standalone_cluster import event_log, pack, shuffled_bytes, standalone, submit_to_cluster, submit_to_laptop

SETTINGS = """
[storage]
root = "{folder}/warehouse"
[landing]
events = "{landing}/events"
items = "{landing}/items"
users = "{landing}/users"
[events.types.purchase]
value_transform = "log"
[events.types.return]
weight = -1.0
value_transform = "log"
[segments]
attribute = "country"
[sources]
enabled = ["popular", "item_cf", "als"]
"""


def main() -> None:
    """Runs both sides and prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2010, 6, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2010, 11, 30))
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="recsys-cluster-"))
    landing = folder / "landing"
    write_events(landing, asked.first, asked.last)
    write_catalogue(landing, asked.last)
    archive = pack(folder)
    with standalone(folder) as url:

        def submit(settings: Path, *given: str) -> subprocess.Popen[bytes]:
            return submit_to_cluster(url, settings, archive, *given)

        cluster_s, cluster_mb = run_day(folder / "cluster", landing, submit)
    local_s, local_mb = run_day(folder / "local", landing, submit_to_laptop)
    cluster, local = (contents(folder / name) for name in ("cluster", "local"))
    found = {
        "cluster_s": round(cluster_s, 1),
        "local_s": round(local_s, 1),
        "ratio": round(cluster_s / local_s, 2),
        "cluster_shuffled_mb": round(cluster_mb, 1),
        "local_shuffled_mb": round(local_mb, 1),
        "differs": sorted(name for name in {*cluster, *local} if cluster.get(name) != local.get(name)),
    }
    print(json.dumps(found))
    sys.exit(1 if found["differs"] else 0)


def run_day(folder: Path, landing: Path, submit: Callable[..., subprocess.Popen[bytes]]) -> tuple[float, float]:
    """Seconds of a day that is run in `folder`, and the MB that it shuffled.  submit: of settings and properties."""
    folder.mkdir()
    settings = folder / "recsys.toml"
    settings.write_text(SETTINGS.format(folder=folder, landing=landing))
    started = time.perf_counter()
    code, output = end_run(submit(settings, *event_log(folder / "events")), 3600)
    if code:
        sys.exit(output[-6000:])
    seconds, megabytes = time.perf_counter() - started, shuffled_bytes(folder / "events") / 1e6
    print(f"{folder.name}: {seconds:.1f} s, {megabytes:.1f} MB shuffled", flush=True)
    return seconds, megabytes


def contents(folder: Path) -> dict[str, str]:
    """Content hash of every table that was published."""
    (row,) = history(folder / "warehouse")
    return {table.name: table.content_hash for table in row.tables}


if __name__ == "__main__":
    main()
