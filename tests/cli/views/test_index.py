"""What a person is shown of an index: every shard, the reasons, and the recall that was measured."""

from pathlib import Path

import pytest

from recsys_spark.cli.console import Console
from recsys_spark.cli.views.index import ladder_table, show_index
from recsys_spark.config.load import load_config
from recsys_spark.serving.bundle import open_current
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.tables import RUN_STEPS
from tests.made_warehouse import GENERATED_AT, RUN_A
from tests.serving.test_index import publish_index

FIGURES = {"recall_at_10_nprobe_1": 0.5, "recall_at_100_nprobe_1": 0.25, "recall_at_100_nprobe_8": 1.0, "nprobe": 8.0}
FIGURES["recall_at_10_nprobe_8"] = 0.75


def test_ladder_table_has_a_row_per_nprobe_and_marks_the_one_that_is_served() -> None:
    table = ladder_table(FIGURES, 8)
    assert [column.header for column in table.columns] == ["nprobe", "recall@10", "recall@100"]
    assert [list(column.cells) for column in table.columns] == [
        ["1", "8 (served)"], ["0.5000", "0.7500"], ["0.2500", "1.0000"],
    ]  # fmt: skip


def test_show_index_prints_shards_reasons_and_recall(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_index(tmp_path)
    done = {"run_id": RUN_A, "step": "ann", "started_at": GENERATED_AT, "seconds": 1.0, "recorded_at": GENERATED_AT}
    append_rows(tmp_path, RUN_STEPS, [done | {"n_rows": {}, "content_hashes": {}, "figures": FIGURES}])
    config = load_config(sets=(f"storage.root={tmp_path}", 'ann.factory="IVF8,Flat"'))
    bundle = open_current(tmp_path)
    show_index(bundle, config, Console(json_logs=False))
    said = capsys.readouterr().out
    for row in bundle.read_table("ann_shards").to_pylist():
        assert row["sha256"][:8] in said
    assert "IVF8,Flat: asked for" in said
    assert "8 (served)" in said


def test_show_index_of_a_run_without_one_is_an_empty_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_index(tmp_path, n_shards=0)
    show_index(open_current(tmp_path), load_config(sets=(f"storage.root={tmp_path}",)), Console(json_logs=False))
    assert "nprobe" in capsys.readouterr().out
