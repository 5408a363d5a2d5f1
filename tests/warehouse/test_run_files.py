"""The log's list of a run's files is taken as it is, and a file that does not fit it is named."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from recsys_spark.errors import BundleExpired, DamagedError
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.run_files import DataFile, RunFiles, list_run, list_table, open_table
from recsys_spark.warehouse.tables import USER_INDEX
from tests.made_warehouse import RUN_A, RUN_B, drop_run, stage_rows

DECLARED = pa.schema(
    [
        ("user_idx", pa.int32()),
        ("user_id", pa.string()),
        ("items", pa.list_(pa.field("element", pa.struct([("item_id", pa.string())]), nullable=False))),
        ("at", pa.timestamp("us", "UTC")),
        ("added_later", pa.float64()),
    ]
)


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """The index of two runs; run A in two files of 2 and 1 users."""
    create_tables(tmp_path, [USER_INDEX])
    for run, ids in ((RUN_A, ["a", "b"]), (RUN_B, ["a", "b", "c", "d"]), (RUN_A, ["z"])):
        stage_rows(tmp_path, run, {"user_index": [{"user_idx": at, "user_id": one} for at, one in enumerate(ids)]})
    return tmp_path


def _list(root: Path) -> RunFiles:
    return list_run(Path(table_path(root, "user_index")), "user_index", RUN_A, "user_id")


def test_list_run_gives_rows_and_bounds_of_its_own_files_only(warehouse: Path) -> None:
    run = _list(warehouse)
    assert run.n_rows == 3
    assert sorted((file.n_rows, file.low, file.high) for file in run.files) == [(1, "z", "z"), (2, "a", "b")]
    assert run.schema.names == ["user_idx", "user_id"]


def test_list_run_is_empty_when_the_run_has_no_rows(warehouse: Path) -> None:
    run = list_run(Path(table_path(warehouse, "user_index")), "user_index", "20250101-001-00000000", "user_id")
    assert (run.n_rows, run.files) == (0, ())


def test_list_run_counts_rows_in_the_footer_when_the_log_has_no_statistics(tmp_path: Path) -> None:
    frame = pa.table({"user_id": ["a", "b"], "run_id": [RUN_A, RUN_A]})
    configuration = {"delta.dataSkippingNumIndexedCols": "0"}
    write_deltalake(tmp_path / "t", frame, partition_by=["run_id"], configuration=configuration)
    commit = next((tmp_path / "t" / "_delta_log").glob("*.json"))
    commit.write_text(commit.read_text().replace('"stats":', '"no_stats":'))
    run = list_run(tmp_path / "t", "user_index", RUN_A, "user_id")
    assert [(file.n_rows, file.low, file.high) for file in run.files] == [(2, None, None)]


def test_checked_path_refuses_a_file_of_another_size(warehouse: Path) -> None:
    run = _list(warehouse)
    path = run.checked_path(run.files[0])
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b"x"):
        path.write_bytes(damaged)
        expected = rf"user_index run_id={RUN_A} .*expected {len(whole)} bytes, got {len(damaged)}"
        with pytest.raises(DamagedError, match=expected):
            run.checked_path(run.files[0])


def test_checked_path_calls_a_lost_file_damage_while_the_table_lists_it(warehouse: Path) -> None:
    run = _list(warehouse)
    run.checked_path(run.files[0]).unlink()
    with pytest.raises(DamagedError, match="expected a file, got none"):
        run.checked_path(run.files[0])


def test_checked_path_calls_a_lost_file_expired_once_the_table_has_dropped_it(warehouse: Path) -> None:
    run = _list(warehouse)
    drop_run(warehouse, "user_index", RUN_A)
    assert run.checked_path(run.files[0]).exists()
    run.checked_path(run.files[0]).unlink()
    with pytest.raises(BundleExpired, match=r"bundle\.refresh\(\)"):
        run.checked_path(run.files[0])


def test_reading_names_the_file_that_cannot_be_read(warehouse: Path) -> None:
    run = _list(warehouse)
    path = run.checked_path(run.files[0])
    path.write_bytes(b"\0" * path.stat().st_size)
    with (
        pytest.raises(DamagedError, match=r"part-.*expected a Parquet file, got"),
        run.reading(run.files[0], "a Parquet file") as checked,
    ):
        pq.read_metadata(checked)


def test_list_table_gives_the_version_and_bounds_of_numbers_as_text(tmp_path: Path) -> None:
    for publish_seq in (9, 10):
        write_deltalake(tmp_path / "t", pa.table({"publish_seq": [publish_seq]}), mode="append")
    version, files = list_table(tmp_path / "t", "t", "publish_seq")
    assert version == 1
    assert {(file.low, file.high) for file in files} == {("9", "9"), ("10", "10")}


def test_open_table_refuses_deletion_vectors(tmp_path: Path) -> None:
    schema = pa.schema([("user_id", pa.string())])
    DeltaTable.create(tmp_path / "t", schema=schema, configuration={"delta.enableDeletionVectors": "true"})
    with pytest.raises(DamagedError, match="without deletion vectors"):
        open_table(tmp_path / "t", "t")


def test_open_table_refuses_a_folder_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="t: expected a Delta table"):
        open_table(tmp_path / "t", "t")


@pytest.mark.parametrize(
    ("column", "stored"),
    [
        ("user_id", pa.binary()),
        ("user_idx", pa.int64()),
        ("user_key", pa.string()),
        ("items", pa.list_(pa.struct([("item_id", pa.string()), ("rank", pa.int32())]))),
        ("at", pa.timestamp("us", "Asia/Tokyo")),
    ],
)
def test_check_columns_refuses_what_the_table_does_not_declare(column: str, stored: pa.DataType) -> None:
    file = DataFile("part.parquet", 1, 1, None, None)
    with pytest.raises(DamagedError, match=f"part.parquet: expected column {column} as"):
        RunFiles("t", Path("t"), RUN_A, DECLARED, (file,)).check_columns(file, pa.schema([(column, stored)]))


def test_check_columns_accepts_how_spark_and_delta_rs_write_the_same_types() -> None:
    file = DataFile("part.parquet", 1, 1, None, None)
    struct = pa.struct([pa.field("item_id", pa.string(), nullable=False)])
    found = pa.schema(
        [("user_id", pa.string()), ("items", pa.list_(pa.field("item", struct))), ("at", pa.timestamp("ns"))]
    ).append(pa.field("run_id", pa.string()))
    RunFiles("t", Path("t"), RUN_A, DECLARED, (file,)).check_columns(file, found)
