"""The Spark session of a command; nothing else in the product builds one.

Owns: the check of Java, the local profile, the Delta jar.  Under spark-submit the session exists already and its
settings come from the properties file; on a laptop they are read from `conf/spark/local.conf`.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.config_file import conf_folder
from recsys_spark.errors import EnvironmentFault

DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
_OLDEST_JAVA = 17

_log = logging.getLogger(__name__)


def open_session(app_name: str, extra: dict[str, str] | None = None) -> SparkSession:
    """The session of this process: the one that spark-submit made, else a new local one.

    extra: settings laid over the local profile.  Raises EnvironmentFault if Java or the Delta jar is missing.
    """
    # Workers must run the interpreter of the driver, and keep days in UTC whatever the machine's zone is.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        check_java()
        for key, value in (local_settings() | (extra or {})).items():
            builder = builder.config(key, value)
        builder = builder.config("spark.jars.packages", DELTA_PACKAGE)
    try:
        return builder.getOrCreate()
    except Exception as err:
        raise EnvironmentFault(
            f"session: expected Spark to start with {DELTA_PACKAGE}, got {_first_line(err)}; check that Maven Central "
            "can be reached, or put the jar into ~/.m2 and its name into spark.jars"
        ) from err


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
        raise EnvironmentFault(f"Java: expected version {_OLDEST_JAVA} or newer, got none; {_INSTALL_JAVA}")
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    found = re.search(r'version "(\d+)(?:\.(\d+))?', answer)
    # Java 8 and older call themselves 1.x.
    major = int(found.group(2) or 0) if found and found.group(1) == "1" else int(found.group(1)) if found else 0
    if major < _OLDEST_JAVA:
        raise EnvironmentFault(
            f"Java: expected version {_OLDEST_JAVA} or newer, got {major or 'no answer'} at {java}; {_INSTALL_JAVA}"
        )


_INSTALL_JAVA = (
    "install it with `apt-get install openjdk-17-jre-headless` (Debian), `brew install openjdk@17` (macOS) "
    "or `sdk install java 17-tem` (SDKMAN), or set JAVA_HOME"
)


def _first_line(err: Exception) -> str:
    text = str(err).strip() or type(err).__name__
    return text.splitlines()[0][:300]
