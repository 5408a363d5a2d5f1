"""The Spark session of a command; nothing else in the product builds one.

Owns: the check of Java, the local profile, the Delta jar.  Under spark-submit the session exists already and its
settings come from the properties file; on a laptop they are read from `conf/spark/local.conf`.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.config_file import conf_folder
from recsys_spark.errors import EnvironmentFault

_OLDEST_JAVA = 17
_JAVA_TIMEOUT_S = 30  # a cold JVM on a busy machine answers in two


def open_session(app_name: str, log_file: Path, extra: dict[str, str] | None = None) -> SparkSession:
    """The session of this process: the one that spark-submit made, else a new local one.

    log_file: where a local JVM and its workers write what would otherwise cover the console.  extra: settings laid over
    the local profile.  Raises EnvironmentFault if Java or the Delta jar is missing.
    """
    # Workers must run the interpreter of the driver.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return builder.getOrCreate()
    settings = local_settings() | (extra or {})
    for key, value in settings.items():
        builder = builder.config(key, value)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _stderr_to(log_file):
            return builder.getOrCreate()
    except Exception as err:
        try:
            check_java()  # only now: to ask starts a JVM, which every command would wait for
        except EnvironmentFault as fault:
            raise fault from err
        raise EnvironmentFault(
            f"session: expected Spark to start with {settings['spark.jars.packages']}, got {_cause(err, log_file)}; "
            "check that Maven Central can be reached (the jar is kept in ~/.ivy2.5.2 after that); all output is in "
            f"{log_file}"
        ) from err


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
    settings = {}
    for line in (conf_folder() / "spark" / "local.conf").read_text(encoding="utf-8").splitlines():
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


_INSTALL_JAVA = (
    "install it with `apt-get install openjdk-17-jre-headless` (Debian), `brew install openjdk@17` (macOS) "
    "or `sdk install java 17-tem` (SDKMAN), or set JAVA_HOME"
)


def _cause(err: Exception, log_file: Path) -> str:
    """The line that says why: of the JVM's output if it names one, else of the exception."""
    for line in log_file.read_text(encoding="utf-8", errors="replace").splitlines():
        if "unresolved dependency" in line or "Exception in thread" in line or "not found" in line.lower():
            return line.strip(" \t:")[:300]
    return (str(err).strip() or type(err).__name__).splitlines()[0][:300]
