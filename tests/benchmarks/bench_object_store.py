"""A day of a small shop whose warehouse is in an S3 server, and the same day in a folder.

    uv run --group bench python tests/benchmarks/bench_object_store.py [--days 6]

The server is moto's, in this process, on the loopback address: what it takes is what requests cost, not what a
network does.  Each day is ingested, fitted, audited and published by `recsys-spark run`.  The last line is JSON: the
seconds of both, their ratio, and the tables whose content differs.  Exit status 1 if one does.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from recsys_spark.config.schema import Config
from tests.benchmarks.report import finish, size_options
from tests.published_content import published_content
from tests.s3_server import CREDENTIALS, new_bucket, s3_server
from tests.small_shop import FIRST_DAY, land_catalogue, land_days, make_shop, write_settings


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the day in both places and prints what it took."""
    asked = size_options(__doc__, days=6).parse_args(argv)
    os.environ.update(CREDENTIALS)
    day = FIRST_DAY + timedelta(days=asked.days)
    folder = Path(tempfile.mkdtemp(prefix="recsys-store-"))
    config = make_shop(folder)
    land_days(config, FIRST_DAY, asked.days)
    land_catalogue(config, day - timedelta(days=1))
    local = write_settings(config, folder)
    with s3_server() as endpoint:
        bucket = new_bucket(endpoint) / "warehouse"
        of_bucket = f'root = "{bucket}"\nendpoint = "{endpoint}"\nregion = "{bucket.region}"'
        remote = folder / "s3.toml"
        remote.write_text(local.read_text().replace(f'root = "{config.root}"', of_bucket))
        seconds = {"s3": run(remote, day), "folder": run(local, day)}
        differing = differences(config, published_content(bucket))
    ratio = round(seconds["s3"] / seconds["folder"], 2)
    finish(seconds | {"ratio": ratio, "differing": differing}, asked, right=not differing)


def run(settings: Path, day: date) -> float:
    """Seconds of a whole day, with the start of its session."""
    started = time.monotonic()
    command = [str(Path(sys.executable).parent / "recsys-spark"), "run", "--date", str(day), "--config", str(settings)]
    subprocess.run(command, cwd=settings.parent, check=True)
    seconds = round(time.monotonic() - started, 1)
    print(f"{settings.name}: {seconds} s", flush=True)
    return seconds


def differences(config: Config, stored: dict[str, str]) -> list[str]:
    """Tables of the folder's bundle whose content is another in the bucket's."""
    here = published_content(config.root)
    return sorted(name for name in here.keys() | stored.keys() if here.get(name) != stored.get(name))


if __name__ == "__main__":
    main()
