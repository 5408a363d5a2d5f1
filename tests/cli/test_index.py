"""`recsys-spark index verify`: a whole index is listed, a damaged one is named, and ends the command with 3."""

from pathlib import Path

import pytest

from recsys_spark.cli.main import main
from recsys_spark.serving.bundle import open_current
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.tables import RUN_STEPS
from tests.made_warehouse import GENERATED_AT, RUN_A
from tests.serving.test_index import publish_index


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    publish_index(tmp_path / "warehouse")
    done = {"run_id": RUN_A, "step": "ann", "started_at": GENERATED_AT, "seconds": 1.0, "recorded_at": GENERATED_AT}
    figures = {"recall_at_100_nprobe_8": 1.0}
    append_rows(tmp_path / "warehouse", RUN_STEPS, [done | {"n_rows": {}, "content_hashes": {}, "figures": figures}])
    return tmp_path / "warehouse"


def test_verify_tells_what_it_found_whole(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "verify", "--set", f"storage.root={root}"]) == 0
    assert f"run {RUN_A}: 2 shards with 300 items are whole" in capsys.readouterr().out


def test_verify_names_a_damaged_shard_and_ends_with_3(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = open_current(root).read_table("ann_shards").sort_by("shard").to_pylist()[1]
    path = root / row["rel_path"]
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["index", "verify", "--set", f"storage.root={root}"]) == 3
    assert capsys.readouterr().err.startswith(f"shard 1: {row['rel_path']}: expected {row['n_bytes']} bytes")


def test_verify_of_no_warehouse_ends_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["index", "verify"]) == 2
