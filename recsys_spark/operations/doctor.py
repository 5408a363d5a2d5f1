"""Environment checks of `recsys-spark doctor`: what a run needs of the machine, and a remedy for what is missing.

Owns: the checks.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from recsys_spark import __version__, package_root
from recsys_spark.config.schema import Config
from recsys_spark.errors import EnvironmentFault, StoreFault
from recsys_spark.spark.session import check_java, is_fetched, local_settings, packages_of, settings_for
from recsys_spark.warehouse.location import Location, ObjectPath

_MIN_FREE_BYTES = 5 << 30
_WORKERS_BYTES = 2 << 30  # beside the JVM's heap of 2 GiB: the demo, towers included, took 3.98 GiB in all
_MAX_SKEW_S = 2.0
_BUILT = datetime(2026, 1, 1, tzinfo=UTC)  # no correct clock shows a time before it


@dataclass(frozen=True)
class Finding:
    """One check.  remedy: "" if all is well."""

    name: str
    found: str
    remedy: str = ""


def examine(config: Config) -> list[Finding]:
    """Every check of this machine, for runs with these settings."""
    checks: dict[str, Callable[[Config], Finding]] = {
        "Java": _java,
        "Spark": _spark,
        "jars": _jars,
        "warehouse": _warehouse,
        "landing": _landing,
        "disk": _disk,
        "cores": _cores,
        "memory": _memory,
        "compiled code": _compiled_code,
        "clock": _clock,
    }
    return list(_each(checks, config))


def _each(checks: dict[str, Callable[[Config], Finding]], config: Config) -> Iterator[Finding]:
    for name, check in checks.items():
        try:
            yield check(config)
        except Exception as err:  # a check that crashes is a finding too, and the others go on
            fault = " ".join(str(err).split()) or type(err).__name__
            yield Finding(name, fault[:200], "see the message; without this a run will fail")


def _java(_config: Config) -> Finding:
    try:
        check_java()
    except EnvironmentFault as err:
        found, _, remedy = str(err).partition("; ")
        return Finding("Java", found, remedy)
    return Finding("Java", os.environ.get("JAVA_HOME") or str(shutil.which("java")))


def _spark(_: Config) -> Finding:
    import pyspark

    return Finding("Spark", f"pyspark {pyspark.__version__}, recsys-spark {__version__}")


def _jars(config: Config) -> Finding:
    packages = packages_of(settings_for(config.root))
    if missing := [one for one in packages if not is_fetched(one)]:
        return Finding("jars", f"{', '.join(missing)}: not kept here yet, the first run fetches from Maven Central")
    return Finding("jars", f"{', '.join(packages)}: kept in {Path.home()}")


def _warehouse(config: Config) -> Finding:
    root = config.root
    if _can_write(root):
        return Finding("warehouse", f"{root} can be written")
    remedy = "give another with --set storage.root=..., or change its rights"
    if isinstance(root, ObjectPath):
        remedy = "check the bucket, [storage] endpoint and region, and the credentials in the environment"
    return Finding("warehouse", f"{root} cannot be written", remedy)


def _landing(config: Config) -> Finding:
    found = {feed: config.landing_place(feed) for feed in ("events", "items", "users")}
    named = {feed: place for feed, place in found.items() if place}
    try:
        missing = [f"{feed} in {place}" for feed, place in named.items() if not place.is_dir()]
    except StoreFault as err:
        fault, _, remedy = str(err).rpartition("; ")
        return Finding("landing", fault, remedy)
    if missing:  # a feed may be yet to come
        return Finding("landing", f"nothing yet of {', '.join(missing)}")
    return Finding("landing", ", ".join(named) or "no feed")


def _can_write(folder: Location) -> bool:
    """Whether a file can be made in `folder`, or in the nearest folder above it that exists."""
    try:
        if isinstance(folder, ObjectPath):
            return _written_at(folder) > 0
        with tempfile.NamedTemporaryFile(dir=_existing(folder)):
            return True
    except (OSError, StoreFault):
        return False


def _written_at(root: ObjectPath) -> float:
    """The time of writing, in seconds, that the object store gives a file that is written now."""
    trial = root / f"_doctor-{uuid4().hex}"
    trial.write_bytes(b"trial")
    try:
        return trial.stat().st_mtime
    finally:
        trial.unlink()


def _existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.absolute().parents) if one.exists())


def _disk(config: Config) -> Finding:
    found = []
    places = {"the warehouse": config.root, "shuffles (TMPDIR)": Path(tempfile.gettempdir())}
    for name, place in places.items():
        if isinstance(place, ObjectPath):
            continue
        found.append((name, shutil.disk_usage(_existing(place)).free))
    text = ", ".join(f"{free / 2**30:,.0f} GiB free for {name}" for name, free in found)
    least = min(free for _, free in found)
    return Finding("disk", text, "" if least >= _MIN_FREE_BYTES else "free 5 GiB, or give other folders")


def _cores(_: Config) -> Finding:
    cores, master = len(os.sched_getaffinity(0)), local_settings()["spark.master"]
    return Finding("cores", f"{cores}; the local profile takes {master}", "" if cores >= 2 else "a run needs 2 cores")


def _memory(_: Config) -> Finding:
    heap = local_settings()["spark.driver.memory"]
    needed = int(heap[:-1]) * {"m": 1 << 20, "g": 1 << 30}[heap[-1].lower()] + _WORKERS_BYTES
    available = _available_bytes()
    text = f"{available / 2**30:.1f} GiB available; the local profile takes {heap} for the JVM, "
    text += f"and {_WORKERS_BYTES >> 30} GiB for workers"
    return Finding("memory", text, "" if available >= needed else "end other programs, or lower spark.driver.memory")


def _available_bytes() -> int:
    """What a new program may take before the machine swaps."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _compiled_code(_: Config) -> Finding:
    """The folder of numba's cache: without one every worker compiles for seconds."""
    kept = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(kept) if kept else package_root()
    if _can_write(folder):
        return Finding("compiled code", f"kept in {folder}")
    return Finding("compiled code", f"{folder} cannot be written", "set NUMBA_CACHE_DIR to a folder that can")


def _clock(config: Config) -> Finding:
    """The clock against the storage's own, because times of files and of the log are compared."""
    now = datetime.now(UTC)
    if now < _BUILT:
        return Finding("clock", f"{now:%Y-%m-%d %H:%M} UTC", "set the clock: the day that a run is for depends on it")
    if not _can_write(config.root):
        return Finding("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")
    if isinstance(config.root, ObjectPath):
        skew = abs(_written_at(config.root) - time.time())
    else:
        with tempfile.NamedTemporaryFile(dir=_existing(config.root)) as file:
            skew = abs(Path(file.name).stat().st_mtime - time.time())
    text = f"{now:%Y-%m-%d %H:%M:%S} UTC, {skew:.1f} s from the storage's"
    return Finding("clock", text, "" if skew <= _MAX_SKEW_S else "set both by the same time server")
