"""An ingest that dies at any point is finished by the next one, to the same rows and the same accounts."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.failpoint import FailpointReached
from recsys_spark.steps.ingest import ingest
from tests.event_files import RECEIVED_AT, event, jsonl
from tests.ingest_world import batch_states, check_accounts, drop, file_rows, make_world, refused_lines, rows_of

POINTS = ("ingest.after_plan", "ingest.after_events", "ingest.after_quarantine", "ingest.after_files")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """One warehouse that takes in a batch for every point, so that each replay has batches before it."""
    return make_world(tmp_path_factory.mktemp("kill"), "ingest.max_bad_row_ratio=0.5")


def _land(config: Config, number: int) -> None:
    """A file with 20 new events, 5 of them anonymous, 5 of the batch before, a repeated and a bad line."""
    first = 1000 * number
    lines = [event(one, user_id=None if one % 4 == 0 else "u") for one in range(first, first + 20)]
    known = [event(one, user_id=None if one % 4 == 0 else "u") for one in range(first - 1000, first - 995)]
    drop(config, f"{number}.jsonl", jsonl([*lines, *known, lines[0], b"bad"]))


@pytest.mark.parametrize("number", range(1, 5), ids=POINTS)
def test_batch_is_finished_after_a_death_at_any_point(
    spark: SparkSession, world: Config, failpoint: Callable[[str], None], number: int
) -> None:
    _land(world, number)
    failpoint(POINTS[number - 1])
    with pytest.raises(FailpointReached):
        ingest(spark, world, received_at=RECEIVED_AT + timedelta(days=number))
    assert batch_states(world)[-1] == (number, "planned")

    failpoint("none")
    # The settings may have changed since: a batch is finished as it was planned.
    stricter = world.model_copy(update={"ingest": world.ingest.model_copy(update={"max_bad_row_ratio": 0.0})})
    report = ingest(spark, stricter, received_at=RECEIVED_AT + timedelta(days=40 + number))
    assert [(batch.batch_seq, batch.replayed) for batch in report.batches] == [(number, True)]
    new = sorted(row["line"] for row in rows_of(world, "events") if row["batch_seq"] == number)
    # The first batch has no batch before it: its "known" events are new.
    expected = list(range(1, 26)) if number == 1 else list(range(1, 21))
    assert new == expected
    assert refused_lines(world, f"{number}.jsonl") == {27: "bad_json"}
    row = file_rows(world, number)[f"{number}.jsonl"]
    assert (row["lines_in"], row["n_duplicate"], row["n_quarantined"]) == (27, 1 if number == 1 else 6, 1)
    assert batch_states(world)[-1] == (number, "done")
    check_accounts(world)
    assert len(rows_of(world, "ingest_files")) == number
    assert len([one for one in rows_of(world, "quarantine") if one["batch_seq"] == number]) == 1


def test_file_that_is_lost_after_its_rows_were_stored_is_accounted_from_storage(
    spark: SparkSession, tmp_path: Path, failpoint: Callable[[str], None]
) -> None:
    config = make_world(tmp_path)
    path = drop(config, "a.jsonl", jsonl(event(number) for number in range(10)))
    drop(config, "b.jsonl", jsonl(event(number) for number in range(5, 15)))
    failpoint("ingest.after_events")
    with pytest.raises(FailpointReached):
        ingest(spark, config, received_at=RECEIVED_AT)
    failpoint("none")
    path.unlink()
    ingest(spark, config, received_at=RECEIVED_AT)
    rows = file_rows(config, 1)
    assert (rows["a.jsonl"]["state"], rows["a.jsonl"]["reason"], rows["a.jsonl"]["n_new"]) == (
        "ingested", "changed_after_storing", 10,
    )  # fmt: skip
    assert (rows["b.jsonl"]["n_new"], rows["b.jsonl"]["n_duplicate"]) == (5, 5)
    check_accounts(config)


_CHILD = """
import sys
from pathlib import Path
from recsys_spark.session import open_session
from recsys_spark.steps.ingest import ingest
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
