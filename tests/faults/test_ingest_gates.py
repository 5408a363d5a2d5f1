"""A batch with too much damage is refused whole, says why, and is tried again when that was corrected."""

from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import EXIT_REFUSED, GateRefused
from recsys_spark.steps.ingest import ingest
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


def test_type_drift_is_set_aside_up_to_the_bound_and_refused_above_it(spark: SparkSession, tmp_path: Path) -> None:
    """Fault row 25: half a percent is accepted, five percent are refused, a raised bound lets them in."""
    config = make_world(tmp_path)
    drop(config, "half-a-percent.jsonl", _drifted(0, 1000, 200))
    report = ingest(spark, config, received_at=RECEIVED_AT)
    assert (report.total("n_new"), report.total("n_quarantined")) == (995, 5)

    drop(config, "five-percent.jsonl", _drifted(1000, 1000, 20))
    with pytest.raises(GateRefused) as refused:
        ingest(spark, config, received_at=RECEIVED_AT + timedelta(days=1))
    assert refused.value.exit_code == EXIT_REFUSED
    assert "got 50 of 1,000 (bad_item_id 50), e.g. five-percent.jsonl line 1 (bad_item_id)" in str(refused.value)
    assert len(rows_of(config, "events")) == 995
    assert len(refused_lines(config, "five-percent.jsonl")) == 50
    assert file_rows(config)["five-percent.jsonl"]["state"] == "refused"
    assert batch_states(config)[-2:] == [(2, "planned"), (2, "refused")]

    lenient = with_sets(config, "ingest.max_bad_row_ratio=0.05")
    report = ingest(spark, lenient, received_at=RECEIVED_AT + timedelta(days=2))
    assert (report.total("n_new"), report.total("n_quarantined")) == (950, 50)
    assert batch_states(config)[-2:] == [(3, "planned"), (3, "done")]
    check_accounts(config)


def test_too_many_damaged_files_are_refused_again_until_they_are_gone(spark: SparkSession, tmp_path: Path) -> None:
    """Fault rows 20 and 22: over the bad-file ratio nothing goes in; a second try does not slip through."""
    config = make_world(tmp_path)
    drop(config, "good.jsonl", jsonl(event(number) for number in range(10)))
    bad = [drop(config, f"bad-{number}.parquet", b"not parquet" + bytes([number])) for number in range(2)]
    for batch_seq in (1, 2):
        with pytest.raises(GateRefused, match=r"got 2 of 3 \(corrupt 2\), e\.g\. bad-0\.parquet"):
            ingest(spark, config, received_at=RECEIVED_AT)
        assert batch_states(config)[-1] == (batch_seq, "refused")
    assert rows_of(config, "events") == []
    bad[0].unlink()
    report = ingest(spark, config, received_at=RECEIVED_AT)
    assert report.total("n_new") == 10
    assert [row["state"] for row in file_rows(config, 3).values()] == ["quarantined", "ingested"]
