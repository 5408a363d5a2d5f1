"""A run that is staged and audited but not published, without Spark: what publish, rollback and gc start from."""

from datetime import UTC, date, datetime
from typing import Any

from recsys_spark.config.schema import Config
from recsys_spark.pipeline.run_ledger import OpenRun
from tests.ledgers import find_or_open_run, record_step
from tests.made_warehouse import make_rows, stage_rows

WITHOUT_ROWS = frozenset({"two_tower_models", "ann_shards", "ranking_examples"})  # of a run without models and examples


def stage_and_audit(
    config: Config, day: date, user_ids: list[str], audited_on: int, **tables: list[dict[str, Any]]
) -> OpenRun:
    """Opens the run of `day`, writes its bundle and records its steps; audited_on: the head that its audit saw.

    tables: rows in place of those of tests/made_warehouse.py; without them the run has no model, index or examples.
    """
    run, _ = find_or_open_run(config, day)
    rows = make_rows(run.run_id, user_ids, {}) | {name: [] for name in WITHOUT_ROWS} | tables
    stage_rows(config.root, run.run_id, rows)
    step = {"run_id": run.run_id, "started_at": datetime.now(UTC), "seconds": 1.0}
    written = {
        "n_rows": {name: len(table_rows) for name, table_rows in rows.items()},
        "content_hashes": dict.fromkeys(rows, "c0ffee"),
    }
    record_step(config.root, step | written | {"step": "blend", "figures": {}})
    audited = {"step": "audit", "n_rows": {}, "content_hashes": {}, "figures": {"publish_seq": float(audited_on)}}
    record_step(config.root, step | audited)
    return run
