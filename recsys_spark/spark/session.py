"""The Spark session of a command, and its start-up time; nothing else in the product builds a session.

Owns: the check of Java, the local profile, the Delta jar, what Python keeps of the JVM, and the seconds from the start
of the process to the first Spark job, which a user waits for.  Under spark-submit the session exists already and its
settings come from the properties file; on a laptop they are read from `conf/spark/local.conf`.
"""

import fcntl
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from recsys_spark.config.load import conf_folder
from recsys_spark.errors import EnvironmentFault
from recsys_spark.warehouse.location import Location, hadoop_settings
from recsys_spark.warehouse.whole_file import own_folder

_OLDEST_JAVA = 17
_JAVA_TIMEOUT_S = 30  # a cold JVM on a busy machine answers in two


# Names that PySpark looks up in the JVM at every expression: 12,000 look-ups and a tenth of the time of a small day,
# most of it in the JVM, which looks for `functions` in each package that might hold it.  Py4J keeps no answer.
_LOOKUPS = {
    "functions": ("col", "lit", "not"),
    "org.apache.spark.sql.functions": (
        *("array", "array_sort", "coalesce", "col", "count", "count_distinct", "count_if", "explode", "expr"),
        *("lit", "map_entries", "max", "min", "size", "struct", "sum", "transform", "when", "xxhash64"),
    ),
    "org.apache.spark.sql.classic.SparkSession": ("getActiveSession",),
    "PythonUtils": ("toList", "toSeq"),
    "PythonSQLUtils": ("lambdaFunction", "unresolvedNamedLambdaVariable"),
    "SimplePythonFunction": (),
}
_INSTALL_JAVA = (
    "install it with `apt-get install openjdk-17-jre-headless` (Debian), `brew install openjdk@17` (macOS) "
    "or `sdk install java 17-tem` (SDKMAN), or set JAVA_HOME"
)
_log = logging.getLogger(__name__)


def open_session(
    app_name: str, root: Location, extra: dict[str, str] | None = None, log_folder: Path | None = None
) -> SparkSession:
    """The session of this process: the one that spark-submit made, else a new local one.

    root: the warehouse.  extra: settings laid over the local profile.  log_folder: where a local JVM and its workers
    write what would otherwise fill the console; by default in the warehouse, or among the temporary files if the
    warehouse is in an object store.  Raises EnvironmentFault if Java, the Delta jar or a store's client is missing.
    """
    # Workers must run the interpreter of the driver.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    for key, value in hadoop_settings(root).items():
        builder = builder.config(f"spark.hadoop.{key}", value)
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        session = builder.getOrCreate()
        check_store_client(session, root)
        _keep_lookups(session)
        return session
    log_file = _log_file(root, log_folder)
    settings = settings_for(root) | (extra or {})
    for key, value in settings.items():
        builder = builder.config(key, value)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _fetching_alone(settings), _stderr_to(log_file):
            session = builder.getOrCreate()
    except Exception as err:
        try:
            check_java()  # only now: the question starts a JVM, for which every command would wait
        except EnvironmentFault as fault:
            raise fault from err
        raise EnvironmentFault(
            f"session: expected Spark to start with {', '.join(packages_of(settings))}, got {_cause(err, log_file)}; "
            "check that Maven Central can be reached (the jar is kept in ~/.ivy2.5.2 after that); all output is in "
            f"{log_file}"
        ) from err
    _keep_lookups(session)
    return session


def _keep_lookups(session: SparkSession) -> None:
    """Lets Python keep the classes and static methods of `_LOOKUPS`, which are the same as long as the JVM lives."""
    jvm = session.sparkContext._jvm
    for name, members in _LOOKUPS.items():
        kept = vars(jvm).setdefault(name, getattr(jvm, name))
        for member in members:
            vars(kept).setdefault(member, getattr(kept, member))


def check_store_client(spark: SparkSession, root: Location) -> None:
    """Raises EnvironmentFault if `root` is in S3 and the session, whose jars others chose, has no client for it."""
    client = "org.apache.hadoop.fs.s3a.S3AFileSystem"
    if str(root).startswith("s3://") and not spark.sparkContext._jsc.hadoopConfiguration().getClassByNameOrNull(client):
        raise EnvironmentFault(
            f"session: expected Hadoop's client for {root}, got a session without its jars; put the two lines of "
            "conf/spark/s3.conf at the end of the file that --properties-file names"
        )


@contextmanager
def _fetching_alone(settings: Mapping[str, str]) -> Iterator[None]:
    """Waits for another session that fetches jars; two that fetch the same at once both fail."""
    if all(map(is_fetched, packages_of(settings))):
        yield
        return
    with (own_folder() / "jars.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def packages_of(settings: Mapping[str, str]) -> list[str]:
    """What Ivy fetches for a session, each as group:name:version."""
    return [one.strip() for one in settings.get("spark.jars.packages", "").split(",") if one.strip()]


def is_fetched(package: str) -> bool:
    """Whether Ivy keeps the jar of a package where it does by default."""
    group, name, version = package.split(":")[:3]
    found = Path.home().glob(f".ivy2*/jars/{group}_{name}-{version}.jar")
    return any(path.stat().st_size for path in found)


def _log_file(root: Location, folder: Path | None) -> Path:
    if folder is None and isinstance(root, Path):
        folder = root / "_logs"
    return folder / "spark.log" if folder else own_folder() / f"spark-{os.getpid()}.log"


@contextmanager
def _stderr_to(log_file: Path) -> Iterator[None]:
    """Standard error goes to `log_file` inside the block; a JVM that is started there keeps it for its life."""
    kept = os.dup(2)
    with log_file.open("wb") as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def local_settings() -> dict[str, str]:
    """The properties of the local profile."""
    return _properties("local.conf")


def settings_for(root: Location) -> dict[str, str]:
    """The properties of the local profile, and what the place of the warehouse needs besides."""
    return local_settings() | (_properties("s3.conf") if str(root).startswith("s3://") else {})


def _properties(name: str) -> dict[str, str]:
    settings = {}
    for line in (conf_folder() / "spark" / name).read_text(encoding="utf-8").splitlines():
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            settings[key] = value.strip()
    return settings


def check_java() -> None:
    """Raises EnvironmentFault unless Java 17 or newer is found by JAVA_HOME, then PATH."""
    home = os.environ.get("JAVA_HOME", "")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if not java or not Path(java).exists():
        found_at = f" at {java} (JAVA_HOME)" if java else " on PATH"
        raise EnvironmentFault(f"Java: expected version {_OLDEST_JAVA} or newer, got none{found_at}; {_INSTALL_JAVA}")
    answer = _ask_version(java)
    found = re.search(r'version "(\d+)(?:\.(\d+))?', answer)
    # Java 8 and older call themselves 1.x.
    major = int(found.group(2) or 0) if found and found.group(1) == "1" else int(found.group(1)) if found else 0
    if major < _OLDEST_JAVA:
        raise EnvironmentFault(
            f"Java: expected version {_OLDEST_JAVA} or newer, got {major or 'no answer'} at {java}; {_INSTALL_JAVA}"
        )


def _ask_version(java: str) -> str:
    """What `java -version` says; "" if it cannot be started or does not end."""
    try:
        asked = subprocess.run(  # noqa: S603 - the program that Spark itself would start
            [java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_JAVA_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stderr.decode(errors="replace")


def _cause(err: Exception, log_file: Path) -> str:
    """The line that says why: of the JVM's output if it names one, else of the exception."""
    for line in log_file.read_text(encoding="utf-8", errors="replace").splitlines():
        if "unresolved dependency" in line or "Exception in thread" in line or "not found" in line.lower():
            return line.strip(" \t:")[:300]
    return (str(err).strip() or type(err).__name__).splitlines()[0][:300]


def log_startup(spark: SparkSession) -> None:
    """Logs the seconds from the start of this process to the session and to its first job."""
    found = startup_seconds(spark)
    if found is not None:
        _log.info("phase=start session_s=%.1f first_job_s=%.1f", *found)


def startup_seconds(spark: SparkSession) -> tuple[float, float] | None:
    """Seconds from the start of this process to the session, and to its first job; None without a job or /proc.

    Of a session of more than a thousand jobs the first is forgotten, and nothing is said.
    """
    context, started = spark.sparkContext._jsc.sc(), _process_started()
    try:
        first = context.statusStore().job(0).submissionTime().get().getTime() / 1000
    except Py4JJavaError:  # NoSuchElementException
        return None
    return None if started is None else (context.startTime() / 1000 - started, first - started)


def _process_started() -> float | None:
    """When this process was started, s since 1970; None where the kernel does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
