"""A publish row stands for exactly its fields, and a history is complete or refused."""

from datetime import UTC, date, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import ContractError, DamagedError
from recsys_spark.warehouse.location import ObjectPath, inside
from recsys_spark.warehouse.publish_row import check_history, check_sequence, parse_row, row_sha256, seal_row
from recsys_spark.warehouse.tables import PUBLISHES


def _fields(publish_seq: int = 1, **changes: Any) -> dict[str, Any]:
    table = {
        "name": "candidates",
        "rel_path": "tables/candidates",
        "delta_version": 3,
        "n_rows": 10,
        "content_hash": "c",
        "schema_hash": "5",
    }
    return {
        "publish_seq": publish_seq,
        "kind": "publish",
        "run_id": "20250131-001-9f2c81aa",
        "data_date": date(2025, 1, 31),
        "prev_seq": publish_seq - 1,
        "tables": [table | changes.pop("table", {})],
        "config_hash": "0",
        "code_version": "0.1.0",
        "grace_hours": 48,
        "published_at": datetime(2025, 1, 31, 6, 0, 0, 5, tzinfo=UTC),
    } | changes


def test_row_sha256_is_that_of_the_canonical_json() -> None:
    row = {"publish_seq": 2, "data_date": date(2025, 1, 31), "published_at": datetime(2025, 1, 31, 6, tzinfo=UTC)}
    text = '{"data_date":"2025-01-31","publish_seq":2,"published_at":"2025-01-31T06:00:00.000000+00:00"}'
    assert row_sha256(row) == sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"publish_seq": 2},
        {"kind": "rollback"},
        {"run_id": "20250131-002-9f2c81aa"},
        {"data_date": date(2025, 2, 1)},
        {"prev_seq": 7},
        {"tables": []},
        {"table": {"n_rows": 11}},
        {"table": {"rel_path": "tables/other"}},
        {"config_hash": "1"},
        {"code_version": "0.1.1"},
        {"grace_hours": 72},
        {"published_at": datetime(2025, 1, 31, 6, 0, 0, 6, tzinfo=UTC)},
    ],
    ids=str,
)
def test_row_sha256_changes_with_every_field(change: dict[str, Any]) -> None:
    assert row_sha256(_fields(**change)) != row_sha256(_fields())


def test_row_sha256_ignores_key_order_zone_and_null_fields() -> None:
    in_tokyo = _fields()["published_at"].astimezone(timezone(timedelta(hours=9)))
    same = dict(reversed(_fields(published_at=in_tokyo).items())) | {"row_sha256": "x", "added_later": None}
    assert row_sha256(same) == row_sha256(_fields())


def test_row_sha256_refuses_a_time_without_zone() -> None:
    with pytest.raises(ContractError, match="expected times with a zone"):
        row_sha256(_fields(published_at=datetime(2025, 1, 31, 6)))  # noqa: DTZ001 - what is tested


def test_seal_row_names_missing_and_unexpected_fields() -> None:
    fields = _fields(model="x")
    del fields["kind"]
    with pytest.raises(ContractError, match=r"missing \['kind'\] and unexpected \['model'\]"):
        seal_row(fields)


def test_parse_row_gives_back_what_was_sealed() -> None:
    sealed = seal_row(_fields())
    assert set(sealed) == set(PUBLISHES.names)
    assert parse_row(sealed).as_row() == sealed


def test_parse_row_refuses_a_row_that_does_not_match_its_hash() -> None:
    with pytest.raises(DamagedError, match="publishes publish_seq=1: expected row_sha256"):
        parse_row(seal_row(_fields()) | {"grace_hours": 49})


@pytest.mark.parametrize(
    "rel_path",
    [
        "../outside", "tables/../../outside", "/etc", "//host/share", "tables//candidates", "tables/", "", ".", "..",
        "file:///etc", "s3://bucket/x", "C:/x", "C:\\x", "tables\\candidates", "tables/%2e%2e/x", "tables/candidates\0",
        "tables/candidates\n", "~/x", "tables/.hidden", "tables/can didates", "$HOME/x", "tables/'; DROP TABLE x",
    ],
)  # fmt: skip
def test_parse_row_refuses_a_path_that_is_not_plainly_inside(rel_path: str) -> None:
    with pytest.raises(DamagedError, match="not a path inside the warehouse"):
        parse_row(seal_row(_fields(table={"rel_path": rel_path})))


def test_parse_row_names_all_faults_at_once() -> None:
    row = seal_row(_fields(run_id="x' OR 1=1", table={"name": "events", "rel_path": "/etc"}))
    with pytest.raises(DamagedError, match=r"unknown table 'events'.*'/etc'.*run_id: expected YYYYMMDD"):
        parse_row(row)


def test_parse_row_refuses_a_table_that_is_named_twice() -> None:
    tables = _fields()["tables"] * 2
    with pytest.raises(DamagedError, match="table 'candidates' twice"):
        parse_row(seal_row(_fields(tables=tables)))


def test_check_history_orders_rows_and_ends_with_the_head() -> None:
    rows = [seal_row(_fields(seq)) for seq in (2, 3, 1)]
    assert [row.publish_seq for row in check_history(rows)] == [1, 2, 3]
    assert check_history([]) == ()


def test_check_history_refuses_one_bad_row_among_good_ones() -> None:
    rows = [seal_row(_fields(seq)) for seq in (1, 2, 3)]
    rows[0]["code_version"] = "tampered"
    with pytest.raises(DamagedError, match="publish_seq=1"):
        check_history(rows)


def test_check_history_refuses_a_row_that_was_not_decided_on_the_one_before() -> None:
    rows = [seal_row(_fields(1)), seal_row(_fields(2)), seal_row(_fields(3, prev_seq=1))]
    with pytest.raises(DamagedError, match="publish_seq=3: expected prev_seq 2, got 1"):
        check_history(rows)


@pytest.mark.parametrize("seqs", [[2], [1, 3], [1, 1, 2], [0, 1], [1, 2, 2]], ids=str)
def test_check_sequence_refuses_gaps_and_repetitions(seqs: list[int]) -> None:
    with pytest.raises(DamagedError, match="a row is lost or twice"):
        check_sequence(seqs)


@given(st.permutations(range(1, 12)))
def test_check_sequence_accepts_any_order(seqs: list[int]) -> None:
    check_sequence(seqs)


def test_inside_refuses_a_link_that_leaves_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(DamagedError, match="expected a path inside"):
        inside(tmp_path / "root", "link/file", "table x")
    assert inside(tmp_path / "root", "tables/x", "table x") == tmp_path / "root" / "tables" / "x"


def test_inside_refuses_a_path_out_of_a_prefix_where_nothing_resolves_it() -> None:
    root = ObjectPath("s3://shop/warehouse")
    assert inside(root, "tables/x", "table x") == ObjectPath("s3://shop/warehouse/tables/x")
    with pytest.raises(DamagedError, match="expected a path inside s3://shop/warehouse"):
        inside(root, "tables/../../another/tables/x", "table x")


@given(st.text(alphabet="ab./\\%~:\0", max_size=12))
def test_inside_never_leaves_the_root(rel_path: str) -> None:
    root = Path("/somewhere/root")
    try:
        path = inside(root, rel_path, "table x")
    except DamagedError:
        return
    assert path.resolve().is_relative_to(root)
