"""Which run of a date is the same run."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys_spark.config.schema import Config
from recsys_spark.ingest.rules import take_in_rules
from recsys_spark.pipeline import run_ledger
from recsys_spark.pipeline.run_ledger import RunLedger
from recsys_spark.two_tower import dimensions
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.tables import INGEST_BATCHES
from tests.ledgers import find_or_open_run, latest_runs, record_state, record_step

DAY = date(2025, 2, 1)


@pytest.fixture
def config(root: Path, make_config: Callable[..., Config]) -> Config:
    return make_config()


def _batch(sequence: int, earliest: datetime | None) -> dict[str, Any]:
    return {
        "batch_seq": sequence,
        "kind": "events",
        "state": "done",
        "received_at": datetime(2025, 3, 1, tzinfo=UTC),
        "history": False,
        "watermark": None,
        "files": [],
        "mapping": "{}",
        "min_event_time": earliest,
        "max_event_time": earliest,
        "affected_dates": [],
        "detail": None,
        "recorded_at": datetime(2025, 3, 1, tzinfo=UTC),
    }


def test_find_or_open_run_takes_an_open_run_up_again(config: Config) -> None:
    first, state = find_or_open_run(config, DAY)
    again, state_again = find_or_open_run(config, DAY)
    assert (state, state_again) == ("open", "open")
    assert first == again
    assert first.run_id.startswith("20250201-001-")


@pytest.mark.parametrize(
    ("earliest", "same"),
    [(datetime(2025, 1, 31, 23, 59, tzinfo=UTC), False), (datetime(2025, 2, 1, tzinfo=UTC), True), (None, True)],
    ids=["before", "at the date", "nothing new"],
)
def test_find_or_open_run_opens_a_new_run_only_for_input_before_the_date(
    config: Config, earliest: datetime | None, same: bool
) -> None:
    first, _ = find_or_open_run(config, DAY)
    append_rows(config.root, INGEST_BATCHES, [_batch(1, earliest)])
    second, _ = find_or_open_run(config, DAY)
    assert (second.run_id == first.run_id) is same
    if not same:
        assert second.run_id.startswith("20250201-002-")
        assert {run["run_id"]: run["state"] for run in latest_runs(config.root)} == {
            first.run_id: "abandoned",
            second.run_id: "open",
        }


def test_find_or_open_run_opens_a_new_run_for_other_settings_or_code(
    config: Config, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = find_or_open_run(config, DAY)
    other, _ = find_or_open_run(make_config("candidates.k=3"), DAY)
    monkeypatch.setattr(run_ledger, "code_version", lambda: "0.1.0+changed")
    newer, _ = find_or_open_run(make_config("candidates.k=3"), DAY)
    assert len({first.run_id, other.run_id, newer.run_id}) == 3


def test_find_or_open_run_opens_a_new_run_when_the_rules_of_the_date_change(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "rules.csv"
    path.write_text("rule_id,kind,item_id\nrecall,block,i7\n")
    first, _ = find_or_open_run(config, DAY)
    take_in_rules(config.root, path, DAY + timedelta(days=1))
    assert find_or_open_run(config, DAY)[0].run_id == first.run_id
    take_in_rules(config.root, path, DAY)
    assert find_or_open_run(config, DAY)[0].run_id != first.run_id


def test_find_or_open_run_is_the_same_wherever_the_warehouse_is_and_however_long_bundles_live(
    config: Config, make_config: Callable[..., Config]
) -> None:
    assert find_or_open_run(config, DAY)[0] == find_or_open_run(make_config("publish.grace_hours=72"), DAY)[0]


def test_find_or_open_run_opens_a_new_run_when_a_setting_is_changed_back(
    config: Config, make_config: Callable[..., Config]
) -> None:
    other = make_config("candidates.k=3")
    runs = []
    for settings in (config, other):
        run, state = find_or_open_run(settings, DAY)
        assert state == "open"
        record_state(config.root, latest_runs(config.root)[-1], "published")
        runs.append(run.run_id)
    assert find_or_open_run(other, DAY)[1] == "published"
    again, state = find_or_open_run(config, DAY)
    assert state == "open"
    assert again.run_id not in runs


def test_steps_of_takes_the_newest_row_of_a_step(config: Config) -> None:
    run, _ = find_or_open_run(config, DAY)
    row = {"run_id": run.run_id, "step": "index", "started_at": datetime.now(UTC), "n_rows": {}, "content_hashes": {}}
    for seconds in (1.0, 2.0):
        record_step(config.root, row | {"seconds": seconds, "figures": {"n": seconds}})
    assert RunLedger(config.root).steps_of(run.run_id)["index"]["figures"] == {"n": 2.0}
    assert find_or_open_run(config, DAY)[0].done == {"index"}


def test_a_date_is_another_run_once_the_towers_that_it_wants_can_be_trained(
    config: Config, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_towers = make_config('sources.enabled=["popular","two_tower"]')
    first, _ = find_or_open_run(with_towers, DAY)
    plain, _ = find_or_open_run(config, DAY)
    monkeypatch.setattr(dimensions, "has_torch", lambda: False)
    assert find_or_open_run(config, DAY)[0].run_id == plain.run_id
    assert find_or_open_run(with_towers, DAY)[0].run_id != first.run_id
