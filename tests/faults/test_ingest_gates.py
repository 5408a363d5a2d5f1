"""A batch with too much damage is refused whole, says why, and is tried again when that was corrected."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.errors import EXIT_REFUSED, GateRefused
from recsys_spark.ingest.accounting import IngestReport
from recsys_spark.ingest.step_ingest import ingest
from tests.event_files import RECEIVED_AT, event, jsonl
from tests.ingest_world import (
    batch_states,
    check_accounts,
    drop,
    file_rows,
    make_world,
    refused_lines,
    rows_of,
    with_sets,
)


def _drifted(first: int, n_lines: int, every: int) -> bytes:
    """Events of which one in `every` has an item_id of another type than all logs before."""
    drifts = [12.0, {"id": 12}, True]
    return jsonl(
        event(number, item_id=drifts[number % 3]) if number % every == 0 else event(number)
        for number in range(first, first + n_lines)
    )


@dataclass(frozen=True)
class Refusals:
    """A batch of a good file and two damaged ones that was refused twice, and then taken in with one damaged less.

    tries: what each said, the newest state of a batch after it, and the events in storage.
    """

    config: Config
    tries: list[tuple[str, tuple[int, str], list[dict[str, Any]]]]
    report: IngestReport


@pytest.fixture(scope="module")
def refusals(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Refusals:
    config = make_world(tmp_path_factory.mktemp("gates"))
    drop(config, "half-a-percent.jsonl", _drifted(0, 1000, 200))
    bad = [drop(config, f"bad-{number}.parquet", b"not parquet" + bytes([number])) for number in range(2)]
    tries = []
    for _ in range(2):
        with pytest.raises(GateRefused) as refused:
            ingest(spark, config, received_at=RECEIVED_AT)
        tries.append((str(refused.value), batch_states(config)[-1], rows_of(config, "events")))
    bad[0].unlink()
    return Refusals(config, tries, ingest(spark, config, received_at=RECEIVED_AT))


def test_too_many_damaged_files_are_refused_again_until_they_are_gone(refusals: Refusals) -> None:
    """Fault rows 20 and 22: over the bad-file ratio nothing goes in; a second try does not slip through."""
    for batch_seq, (said, state, events) in enumerate(refusals.tries, start=1):
        assert "got 2 of 3 (corrupt 2), e.g. bad-0.parquet" in said
        assert state == (batch_seq, "refused")
        assert events == []
    assert refusals.report.total("n_new") == 995
    assert [(path, row["state"]) for path, row in file_rows(refusals.config, 3).items()] == [
        ("bad-1.parquet", "quarantined"),
        ("half-a-percent.jsonl", "ingested"),
    ]


def test_type_drift_is_set_aside_up_to_the_bound_and_refused_above_it(spark: SparkSession, refusals: Refusals) -> None:
    """Fault row 25: half a percent is accepted, five percent are refused, a raised bound lets them in."""
    config = refusals.config
    rows = file_rows(config, 3)["half-a-percent.jsonl"]
    assert (rows["n_new"], rows["n_quarantined"]) == (995, 5)

    drop(config, "five-percent.jsonl", _drifted(1000, 1000, 20))
    with pytest.raises(GateRefused) as refused:
        ingest(spark, config, received_at=RECEIVED_AT + timedelta(days=1))
    assert refused.value.exit_code == EXIT_REFUSED
    assert "got 50 of 1,000 (bad_item_id 50), e.g. five-percent.jsonl line 1 (bad_item_id)" in str(refused.value)
    assert len(rows_of(config, "events")) == 995
    assert len(refused_lines(config, "five-percent.jsonl")) == 50
    assert file_rows(config)["five-percent.jsonl"]["state"] == "refused"
    assert batch_states(config)[-2:] == [(4, "planned"), (4, "refused")]

    lenient = with_sets(config, "ingest.max_bad_row_ratio=0.05")
    report = ingest(spark, lenient, received_at=RECEIVED_AT + timedelta(days=2))
    assert (report.total("n_new"), report.total("n_quarantined")) == (950, 50)
    assert batch_states(config)[-2:] == [(5, "planned"), (5, "done")]
    check_accounts(config)
