"""Small tables are read by Arrow alone, wherever they are."""

from pathlib import Path

import pytest

from recsys_spark.warehouse.delta_rs import open_delta, read_whole, table_path
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.tables import USER_INDEX
from tests.made_warehouse import RUN_A, RUN_B, stage_rows


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A table with one row, below a folder whose name a URL would have to escape."""
    root = tmp_path / "a shop's 100% (ä)"
    create_tables(root, [USER_INDEX])
    stage_rows(root, RUN_A, {"user_index": [{"user_idx": 0, "user_id": "a"}]})
    return Path(str(table_path(root, "user_index")))


def test_read_whole_opens_no_file_through_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that Python opened for a thread of Arrow can abort the process at its end."""

    def refuse(*_: object) -> None:
        raise AssertionError("opened through delta-rs")

    monkeypatch.setattr("deltalake.fs.DeltaStorageHandler.open_input_file", refuse)
    assert read_whole(place).to_pylist() == [{"user_idx": 0, "user_id": "a", "run_id": RUN_A}]
    assert read_whole(place, ["user_id"], [("run_id", "=", RUN_B)]).to_pylist() == []


def test_read_whole_gives_an_earlier_version(place: Path) -> None:
    version = open_delta(place).version()
    open_delta(place).delete()
    assert (read_whole(place).num_rows, read_whole(place, stored=open_delta(place, version)).num_rows) == (0, 1)
