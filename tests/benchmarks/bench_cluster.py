"""A day of Online Retail II on a Spark cluster of this machine against the same day on local[2].

    uv run --group bench python tests/benchmarks/bench_cluster.py [--from 2010-06-01] [--to 2010-11-30] [--folder DIR]

The cluster is a standalone master and two workers of one core on the loopback address; executors unpack the archive of
`recsys-spark package`.  Both sides are `spark-submit jobs/run.py`, from the start of spark-submit to its end, with the
settings of the demo, over the same logs, each with the properties of its profile (conf/spark).  Not in the seconds: the
archive is packed before.
The last line is JSON: cluster_s, local_s, ratio, cluster_shuffled_mb, local_shuffled_mb, and differs, the tables whose
content differs.  Exit status 1 if one does.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from recsys_spark.cli.demo.logs import write_catalogue, write_events
from recsys_spark.cli.demo.story import write_settings
from tests.benchmarks.report import finish, size_options
from tests.published_content import published_content
from tests.run_process import end_run
from tests.standalone_cluster import event_log, pack, shuffled_bytes, standalone, submit_to_cluster, submit_to_laptop


def main(argv: Sequence[str] | None = None) -> None:
    """Runs both sides and prints what they took."""
    parser = size_options(__doc__)
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2010, 6, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2010, 11, 30))
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args(argv)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="recsys-cluster-"))
    for name in ("cluster", "local"):
        write_events(folder / name / "landing", asked.first, asked.last)
        write_catalogue(folder / name / "landing", asked.last)
    archive = pack(folder)
    with standalone(folder) as url:

        def submit(settings: Path, *given: str) -> subprocess.Popen[bytes]:
            return submit_to_cluster(url, settings, archive, *given)

        cluster_s, cluster_mb = run_day(folder / "cluster", submit)
    local_s, local_mb = run_day(folder / "local", submit_to_laptop)
    cluster, local = (published_content(folder / name / "warehouse") for name in ("cluster", "local"))
    found = {
        "cluster_s": round(cluster_s, 1),
        "local_s": round(local_s, 1),
        "ratio": round(cluster_s / local_s, 2),
        "cluster_shuffled_mb": round(cluster_mb, 1),
        "local_shuffled_mb": round(local_mb, 1),
        "differs": sorted(name for name in {*cluster, *local} if cluster.get(name) != local.get(name)),
    }
    finish(found, asked, right=not found["differs"])


def run_day(folder: Path, submit: Callable[..., subprocess.Popen[bytes]]) -> tuple[float, float]:
    """Seconds of a day that is run in `folder`, and the MB that it shuffled.  submit: of settings and properties."""
    settings = write_settings(folder, towers=True)
    started = time.perf_counter()
    code, output = end_run(submit(settings, *event_log(folder / "events")), 3600)
    if code:
        sys.exit(output[-6000:])
    seconds, megabytes = time.perf_counter() - started, shuffled_bytes(folder / "events") / 1e6
    print(f"{folder.name}: {seconds:.1f} s, {megabytes:.1f} MB shuffled", flush=True)
    return seconds, megabytes


if __name__ == "__main__":
    main()
