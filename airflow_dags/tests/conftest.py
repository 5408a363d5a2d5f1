"""Airflow with a home and a database of its own, and a product that is a script which writes down how it was called."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

DAGS = Path(__file__).parents[1]
TEMPORARY = Path(tempfile.mkdtemp(prefix="recsys-airflow-"))
FAKE_BIN = TEMPORARY / "venv" / "bin"
CALLS = TEMPORARY / "calls.txt"
CODES = TEMPORARY / "codes"

# Before Airflow is imported: it reads them once.
for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[name]
os.environ.update(
    AIRFLOW_HOME=str(TEMPORARY / "home"),
    AIRFLOW__CORE__DAGS_FOLDER=str(DAGS),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    # Several processes share the file, each waits for its turn.
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{TEMPORARY}/home/airflow.db?timeout=120",
    AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
    AIRFLOW_CONN_SPARK_DEFAULT='{"conn_type": "spark", "host": "local[2]"}',
)
os.environ["RECSYS_VENV"] = str(FAKE_BIN.parent)
sys.path.insert(0, str(DAGS))

# Writes its arguments down, and ends with the next of the exit codes that a test asked for (of a job, or of a job and a
# date: `job@date`), else with 0.
FAKE = f"""#!{sys.executable} -IS
import sys
from pathlib import Path
with open({str(CALLS)!r}, "a") as calls:
    calls.write(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
    calls.write("cwd " + str(Path.cwd()) + "\\n")
job = next((Path(one).stem for one in sys.argv if one.endswith(".py")), sys.argv[1])
date = sys.argv[sys.argv.index("--date") + 1] if "--date" in sys.argv else ""
codes = Path({str(CODES)!r}) / f"{{job}}@{{date}}"
codes = codes if codes.exists() else codes.with_name(job)
left = codes.read_text().split() if codes.exists() else []
if left:
    codes.write_text(" ".join(left[1:]))
sys.exit(int(left[0]) if left else 0)
"""


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """The metadata database, in this process: `airflow db migrate` takes 10 s."""
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb

    initdb()
    Pool.create_or_update_pool("recsys_publish", slots=1, description="one publish at a time", include_deferred=False)


@pytest.fixture
def submits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Installs the script in place of spark-submit and recsys-spark; called, it returns what was submitted."""
    FAKE_BIN.mkdir(parents=True, exist_ok=True)
    for name in ("spark-submit", "recsys-spark"):
        (FAKE_BIN / name).write_text(FAKE)
        (FAKE_BIN / name).chmod(0o755)
    CALLS.write_text("")
    CODES.mkdir(exist_ok=True)
    for path in CODES.iterdir():
        path.unlink()

    def calls(program: str = "spark-submit") -> list[list[str]]:
        found = [line.split(" ") for line in CALLS.read_text().splitlines()]
        return [call[1:] for call in found if call[0] == program]

    return calls


@pytest.fixture
def exits(submits: Callable[..., list[list[str]]]) -> Callable[[str, str], None]:
    """Sets the exit codes of the next attempts of a job, or of `ready`."""
    return lambda job, codes: (CODES / job).write_text(codes) and None
