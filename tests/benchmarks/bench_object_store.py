"""A day of a small shop whose warehouse is in an S3 server, and the same day in a folder.

    uv run python tests/benchmarks/bench_object_store.py

The server is moto's, in this process, on the loopback address: what it takes is what requests cost, not what a
network does.  Each day is ingested, fitted, audited and published by `recsys-spark run`.  The last line is JSON: the
seconds of both, their ratio, and the tables whose content differs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from recsys_spark.config import Config  # noqa: E402
from tests.published_content import published_content  # noqa: E402
from tests.s3_server import CREDENTIALS, new_bucket, s3_server  # noqa: E402
from tests.small_shop import FIRST_DAY, land_catalogue, land_days, make_shop, write_settings  # noqa: E402

N_DAYS = 6


def main() -> None:
    """Runs the day in both places and prints what it took."""
    os.environ.update(CREDENTIALS)
    folder = Path(tempfile.mkdtemp(prefix="recsys-store-"))
    config = make_shop(folder)
    land_days(config, FIRST_DAY, N_DAYS)
    land_catalogue(config, FIRST_DAY + timedelta(days=N_DAYS - 1))
    local = write_settings(config, folder)
    with s3_server() as endpoint:
        bucket = new_bucket(endpoint) / "warehouse"
        of_bucket = f'root = "{bucket}"\nendpoint = "{endpoint}"\nregion = "{bucket.region}"'
        remote = folder / "s3.toml"
        remote.write_text(local.read_text().replace(f'root = "{config.root}"', of_bucket))
        seconds = {"s3": run(remote), "folder": run(local)}
        differing = differences(config, published_content(bucket))
    print(json.dumps(seconds | {"ratio": round(seconds["s3"] / seconds["folder"], 2), "differing": differing}))


def run(settings: Path) -> float:
    """Seconds of a whole day, with the start of its session."""
    started = time.monotonic()
    date = FIRST_DAY + timedelta(days=N_DAYS)
    command = [str(Path(sys.executable).parent / "recsys-spark"), "run", "--date", str(date), "--config", str(settings)]
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
