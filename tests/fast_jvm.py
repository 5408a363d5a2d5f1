"""JVM and Spark options for tests: small, quick to start, with an archive of Spark's classes, tuned for few rows.

The classes are kept by the first process of a test run that asks; a session that is given them starts in 70 %.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import gettempdir

# A process that lives for a minute does not earn back what the optimising compiler costs.
SMALL_JVM = "-XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC"
FAST_START = f"-XX:TieredStopAtLevel=1 {SMALL_JVM}"

# A small day asks some hundred queries once each.  To compile one takes longer than to interpret it (a third of the
# day), and each adaptive stage is a job of its own (a fifth).
FEW_ROWS = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}

_SESSION = """
import sys
from pathlib import Path
from recsys_spark.spark.session import open_session
from recsys_spark.warehouse.tables import EVENTS
from recsys_spark.warehouse.spark_tables import read_table
from recsys_spark.warehouse.ledger import create_tables
root = Path(sys.argv[1])
spark = open_session("classes", root)
create_tables(root, [EVENTS])
read_table(spark, root, EVENTS).groupBy("user_id").count().collect()
spark.stop()
"""


@cache
def with_classes() -> str:
    """What JAVA_TOOL_OPTIONS says to a JVM for a small day: FAST_START, FEW_ROWS, and the archive of classes.

    A JVM with other jars than those of this environment starts as it would without the archive.
    """
    import pyspark

    jars, java = Path(pyspark.__file__).parent / "jars", Path(shutil.which("java") or "").resolve()
    made_of = "-".join(f"{one.stat().st_mtime_ns}" for one in (jars, java))
    folder = Path(gettempdir()) / f"recsys-tests-{os.getuid()}-{made_of}"
    folder.mkdir(mode=0o700, exist_ok=True)
    archive = folder / "spark.jsa"
    options = " ".join([FAST_START, *(f"-D{name}={value}" for name, value in FEW_ROWS.items())])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            environment = os.environ | {
                "JAVA_TOOL_OPTIONS": FAST_START,
                "SPARK_SUBMIT_OPTS": f"-XX:ArchiveClassesAtExit={folder / 'new.jsa'} -Xlog:disable",
            }
            command = [sys.executable, "-c", _SESSION, str(folder / "warehouse")]
            # The pipe is held by the JVM too, which writes the archive after Python has ended.
            subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            if not (folder / "new.jsa").exists():  # a JVM without class data sharing
                return options
            (folder / "new.jsa").rename(archive)
    return f"{options} -XX:SharedArchiveFile={archive} -Xlog:disable"
