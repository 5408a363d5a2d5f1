"""An ingest that dies at any point is finished by the next one, to the same rows and the same accounts."""

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.ingest.step_ingest import ingest
from tests.death import dies_at
from tests.event_files import RECEIVED_AT, event, jsonl
from tests.ingest_world import batch_states, check_accounts, drop, file_rows, make_world, refused_lines, rows_of

POINTS = ("ingest.after_plan", "ingest.after_events", "ingest.after_quarantine", "ingest.after_files")


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A warehouse whose first batch was finished after two deaths: `a` was lost when its rows had been stored."""
    config = make_world(tmp_path_factory.mktemp("kill"), "ingest.max_bad_row_ratio=0.5")
    path = drop(config, "a.jsonl", jsonl(_event(number) for number in range(10)))
    drop(config, "b.jsonl", jsonl(_event(number) for number in range(5, 15)))
    for point in ("ingest.after_plan", "ingest.after_events"):
        with dies_at(point):
            ingest(spark, config, received_at=RECEIVED_AT)
        assert batch_states(config) == [(1, "planned")]
    path.unlink()
    report = ingest(spark, config, received_at=RECEIVED_AT)
    assert [(batch.batch_seq, batch.replayed) for batch in report.batches] == [(1, True)]
    return config


def _event(number: int) -> dict[str, Any]:
    return event(number, user_id=None if number % 4 == 0 else "u")


def test_file_that_is_lost_after_its_rows_were_stored_is_accounted_from_storage(world: Config) -> None:
    rows = file_rows(world, 1)
    lost, kept = rows["a.jsonl"], rows["b.jsonl"]
    assert (lost["state"], lost["reason"]) == ("ingested", "changed_after_storing")
    # Of 0 to 9 three have no user, of 10 to 14 one; 5 to 9 were in both files.
    assert (lost["n_new"], lost["n_anonymous"]) == (7, 3)
    assert (kept["n_new"], kept["n_anonymous"], kept["n_duplicate"]) == (4, 1, 5)
    check_accounts(world)


def test_batch_is_finished_after_a_death_at_every_point(spark: SparkSession, world: Config) -> None:
    """20 new events, 5 of them anonymous, 5 of the batch before, a repeated and a bad line: all are written once."""
    new, known = [_event(one) for one in range(2000, 2020)], [_event(one) for one in range(5, 10)]
    drop(world, "2.jsonl", jsonl([*new, *known, new[0], b"bad"]))
    # The settings may have changed since: a batch is finished as it was planned.
    stricter = world.model_copy(update={"ingest": world.ingest.model_copy(update={"max_bad_row_ratio": 0.0})})
    written = []
    for day, point in enumerate(POINTS):
        with dies_at(point):
            ingest(spark, stricter if day else world, received_at=RECEIVED_AT + timedelta(days=1 + day))
        assert batch_states(world)[-1] == (2, "planned"), point
        written.append([len(_rows(world, table)) for table in ("events", "quarantine", "ingest_files")])
    assert written == [[0, 0, 0], [20, 0, 0], [20, 1, 0], [20, 1, 1]]

    report = ingest(spark, stricter, received_at=RECEIVED_AT + timedelta(days=40))
    assert [(batch.batch_seq, batch.replayed) for batch in report.batches] == [(2, True)]
    assert sorted(row["line"] for row in _rows(world, "events")) == list(range(1, 21))
    assert refused_lines(world, "2.jsonl") == {27: "bad_json"}
    row = file_rows(world, 2)["2.jsonl"]
    assert (row["lines_in"], row["n_duplicate"], row["n_quarantined"]) == (27, 6, 1)
    assert batch_states(world)[-1] == (2, "done")
    check_accounts(world)
    assert (len(_rows(world, "quarantine")), len(_rows(world, "ingest_files"))) == (1, 1)


def _rows(config: Config, table: str) -> list[dict[str, Any]]:
    """What the second batch wrote."""
    return [row for row in rows_of(config, table) if row["batch_seq"] == 2]


_CHILD = """
import sys
from pathlib import Path
from recsys_spark.spark.session import open_session
from recsys_spark.ingest.step_ingest import ingest
from tests.conftest import TEST_SETTINGS
from tests.event_files import RECEIVED_AT
from tests.ingest_world import make_world
folder = Path(sys.argv[1])
config = make_world(folder)
ingest(open_session("child", folder, extra=TEST_SETTINGS), config, received_at=RECEIVED_AT)
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", ["ingest.after_events"])
def test_batch_is_finished_after_a_real_kill(spark: SparkSession, tmp_path: Path, point: str) -> None:
    config = make_world(tmp_path)
    drop(config, "a.jsonl", jsonl(event(number) for number in range(50)))
    environment = {**os.environ, "RECSYS_FAILPOINT": point, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path)], env=environment, start_new_session=True)
    try:
        assert child.wait(timeout=300) == -signal.SIGKILL
    finally:
        # The JVM and the Python workers outlive their parent: the whole session of the child ends here.
        os.killpg(child.pid, signal.SIGKILL)
    assert batch_states(config) == [(1, "planned")]
    report = ingest(spark, config, received_at=RECEIVED_AT)
    assert json.loads(json.dumps([batch.replayed for batch in report.batches])) == [True]
    assert len(rows_of(config, "events")) == 50
    check_accounts(config)
