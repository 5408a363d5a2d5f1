"""A service gets one consistent bundle, and for every user the list that the fallback order promises."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from shutil import copytree

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_spark.errors import ArgumentError, DamagedError, EnvironmentFault, NothingPublished
from recsys_spark.features.declared import declared_tables
from recsys_spark.plan import BUNDLE_TABLES
from recsys_spark.serving.bundle import Bundle, open_current, open_index
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import CANDIDATE_LISTS, PUBLISHES
from tests.made_warehouse import (
    GENERATED_AT,
    NEIGHBORS,
    RUN_A,
    RUN_B,
    append_publish,
    make_items,
    make_rows,
    publish_bundle,
    stage_rows,
)
from tests.serving.test_row_lookup import UNICODE_IDS

USERS = [f"u{n:02d}" for n in range(20)]
SEGMENTS = {"u00": "gold", "cold": "gold", "plain": None, "odd": "silver"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run A, published; nobody changes it."""
    folder = tmp_path_factory.mktemp("published")
    publish_bundle(folder, RUN_A, USERS, SEGMENTS)
    return folder


@pytest.fixture(scope="module")
def bundle(published: Path) -> Bundle:
    return open_current(published)


@pytest.fixture
def warehouse(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(copytree(published, tmp_path / "copy"))


def test_reader_loads_neither_spark_nor_torch_nor_pandas() -> None:
    code = """
import sys
import recsys_spark.reader
print([name for name in ("pyspark", "py4j", "torch", "faiss", "pandas", "numba") if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_lookups_load_neither_spark_nor_torch(published: Path) -> None:
    code = """
import sys
from recsys_spark.reader import open_current
bundle = open_current(sys.argv[1])
bundle.candidates("u03"), bundle.candidates("nobody"), bundle.user_features("u03"), bundle.item_features(["i1"])
bundle.read_table("candidates"), bundle.refresh()
print([name for name in ("pyspark", "py4j", "torch", "faiss") if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", code, str(published)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_open_current_says_what_to_run_when_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(NothingPublished, match=r"expected a published bundle, got none; run `recsys-spark run`"):
        open_current(tmp_path / "nowhere")
    create_tables(tmp_path, [PUBLISHES])
    with pytest.raises(NothingPublished, match="recsys-spark run"):
        open_current(str(tmp_path))


def test_open_current_tells_which_bundle_it_is(bundle: Bundle) -> None:
    assert (bundle.run_id, bundle.data_date, bundle.publish_seq) == (RUN_A, date(2025, 1, 31), 1)
    assert bundle.published_at == datetime(2025, 2, 1, 6, tzinfo=UTC)


def test_open_current_follows_the_head_not_the_greatest_run_id(warehouse: Path) -> None:
    publish_bundle(warehouse, RUN_B, ["u00"])
    assert open_current(warehouse).run_id == RUN_B
    rows = make_rows(RUN_A, USERS, SEGMENTS)
    append_publish(warehouse, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()}, kind="rollback")
    stage_rows(warehouse, "20250202-001-00000000", make_rows("20250202-001-00000000", ["u00"], {}))
    rolled_back = open_current(warehouse)
    assert (rolled_back.run_id, rolled_back.publish_seq) == (RUN_A, 3)
    assert rolled_back.candidates("u00").items[0].score == 1.0  # 1.5 in run B


@pytest.mark.parametrize("user_id", USERS)
def test_candidates_gives_the_users_own_list(bundle: Bundle, user_id: str) -> None:
    found = bundle.candidates(user_id)
    assert (found.user_id, found.origin, found.generated_at) == (user_id, "user", GENERATED_AT)
    for item, stored in zip(found.items, make_items(RUN_A, user_id), strict=True):
        assert (item.item_id, item.rank) == (stored["item_id"], stored["rank"])
        assert item.score == pytest.approx(stored["score"], rel=1e-7)  # stored as float32
        assert [source._asdict() for source in item.sources] == stored["sources"]


@pytest.mark.parametrize(
    ("user_id", "segment", "origin", "whose"),
    [
        ("cold", None, "segment", "gold"),  # the run knows the segment, not a list
        ("cold", "silver", "segment", "gold"),  # and knows it better than the caller
        ("new", "silver", "segment", "silver"),  # unknown to the run
        ("new", "bronze", "global", "None"),  # a segment without a list
        ("new", None, "global", "None"),
        ("plain", None, "global", "None"),  # known, without a segment
        ("plain", "gold", "segment", "gold"),
    ],
)
def test_candidates_falls_back_to_segment_then_to_everybody(
    bundle: Bundle, user_id: str, segment: str | None, origin: str, whose: str
) -> None:
    found = bundle.candidates(user_id, segment)
    assert (found.user_id, found.origin, found.generated_at) == (user_id, origin, GENERATED_AT)
    assert found.items[0].sources[0].source == f"s0/{whose}"
    assert [item.item_id for item in found.items] == ["i1", "i2", "i3"]


def test_candidates_falls_back_when_the_user_lacks_the_variant(bundle: Bundle) -> None:
    assert bundle.candidates("u00", variant="b").origin == "segment"


def test_candidates_is_empty_when_there_is_no_list_for_anybody(tmp_path: Path) -> None:
    rows = make_rows(RUN_A, ["u00"], {}) | {"fallback_candidates": []}
    create_tables(tmp_path, [declared_tables()[name] for name in (*BUNDLE_TABLES, "publishes")])
    stage_rows(tmp_path, RUN_A, {name: table_rows for name, table_rows in rows.items() if table_rows})
    append_publish(tmp_path, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()})
    found = open_current(tmp_path).candidates("nobody")
    assert (found.items, found.origin) == ((), "global")


def test_candidates_keeps_an_item_that_no_source_is_named_for(tmp_path: Path) -> None:
    rows = make_rows(RUN_A, ["u00", "u01"], {})
    for row in rows["candidates"]:
        row["items"] = [item | {"sources": []} for item in row["items"]]
    rows["candidates"][1]["items"] = []
    create_tables(tmp_path, [declared_tables()[name] for name in (*BUNDLE_TABLES, "publishes")])
    stage_rows(tmp_path, RUN_A, rows)
    append_publish(tmp_path, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()})
    bundle = open_current(tmp_path)
    assert [(item.item_id, item.sources) for item in bundle.candidates("u00").items] == [
        ("i1", ()),
        ("i2", ()),
        ("i3", ()),
    ]
    assert (bundle.candidates("u01").items, bundle.candidates("u01").origin) == ((), "user")


@pytest.mark.parametrize("user_id", [17, None, b"u01", "\ud800"], ids=repr)
def test_candidates_refuses_what_is_not_an_id(bundle: Bundle, user_id: object) -> None:
    with pytest.raises(ArgumentError, match="candidates: expected ids as"):
        bundle.candidates(user_id)  # type: ignore[arg-type]


def test_user_features_gives_every_column_with_the_recent_items(bundle: Bundle) -> None:
    features = bundle.user_features("u00")
    assert features is not None
    assert list(features) == [name for name in declared_tables()["user_features"].names if name != "run_id"]
    assert (features["user_id"], features["segment"], features["recent_items"]) == ("u00", "gold", ["i2", "i1"])
    assert bundle.user_features("nobody") is None


def test_item_features_gives_the_known_items_in_the_order_asked(bundle: Bundle) -> None:
    found = bundle.item_features(["i7", "nothing", "i12", "i7", "i1"])
    assert list(found) == ["i7", "i12", "i1"]
    assert {item_id: row["title"] for item_id, row in found.items()} == {
        item_id: f"Title {item_id} of {RUN_A}" for item_id in ("i7", "i12", "i1")
    }
    assert bundle.item_features([]) == {}


def test_read_table_gives_the_rows_of_this_run_alone(warehouse: Path) -> None:
    publish_bundle(warehouse, RUN_B, ["other"])
    bundle = open_current(warehouse)
    for name, rows in make_rows(RUN_B, ["other"], {}).items():
        read = bundle.read_table(name)
        assert "run_id" not in read.column_names
        columns = [column for column in rows[0] if column != "items"]
        assert read.select(columns).to_pylist() == [{column: row[column] for column in columns} for row in rows]


def test_read_table_gives_the_columns_asked_for_in_that_order(bundle: Bundle) -> None:
    read = bundle.read_table("candidates", ["variant", "user_id"])
    assert read.column_names == ["variant", "user_id"]
    assert read["user_id"].to_pylist() == USERS
    assert read["variant"].unique().to_pylist() == ["main"]


def test_read_table_fills_a_column_that_is_newer_than_the_bundle(warehouse: Path) -> None:
    from deltalake import DeltaTable, Field
    from deltalake.schema import PrimitiveType

    older = open_current(warehouse)
    table = DeltaTable(str(warehouse / "tables" / "item_features"))
    table.alter.add_columns(Field("novelty", PrimitiveType("double")))
    newer = open_current(warehouse)
    assert newer.read_table("item_features", ["item_id", "novelty"])["novelty"].null_count == 20
    assert newer.item_features(["i1"])["i1"]["novelty"] is None
    assert "novelty" not in older.item_features(["i1"])["i1"]


def test_read_table_refuses_unknown_tables_and_columns(bundle: Bundle) -> None:
    with pytest.raises(ArgumentError, match="got 'events'"):
        bundle.read_table("events")
    with pytest.raises(ArgumentError, match=r"got \['nope'\]"):
        bundle.read_table("candidates", ["user_id", "nope"])


def test_read_batches_gives_the_same_rows_in_parts(bundle: Bundle) -> None:
    batches = list(bundle.read_batches("candidates"))
    assert pa.Table.from_batches(batches) == bundle.read_table("candidates")


def test_refresh_gives_the_same_bundle_until_something_is_published(warehouse: Path) -> None:
    bundle = open_current(warehouse)
    assert bundle.refresh() is bundle
    publish_bundle(warehouse, RUN_B, USERS)
    newer = bundle.refresh()
    assert (newer.run_id, newer.publish_seq) == (RUN_B, 2)
    assert (bundle.run_id, bundle.candidates("u01").items[0].score) == (RUN_A, 1.0)
    assert newer.candidates("u01").items[0].score == 1.5
    assert newer.refresh() is newer


def test_refresh_opens_nothing_while_nothing_changed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the log was read")

    monkeypatch.setattr("recsys_spark.warehouse.run_files.DeltaTable", refuse)
    assert bundle.refresh() is bundle


def test_bundle_answers_threads_as_it_answers_one(bundle: Bundle) -> None:
    asked = [*USERS, "cold", "nobody"] * 10
    expected = {user_id: open_current(bundle._root).candidates(user_id) for user_id in set(asked)}
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(bundle.candidates, asked)) == [expected[user_id] for user_id in asked]


def test_open_current_refuses_a_table_with_other_rows_than_published(warehouse: Path) -> None:
    stage_rows(warehouse, RUN_A, {"candidates": make_rows(RUN_A, ["extra"], {})["candidates"]})
    with pytest.raises(DamagedError, match=f"candidates run_id={RUN_A}: expected 20 rows as published, found 21"):
        open_current(warehouse)


def test_bundle_reads_what_spark_staged_byte_for_byte(root: Path, spark: SparkSession) -> None:
    from recsys_spark.warehouse.spark_tables import stage_run

    rows = make_rows(RUN_A, UNICODE_IDS, {})
    frame = spark.createDataFrame(rows["candidates"], spark_schema(CANDIDATE_LISTS, without=("run_id",)))
    # Three rows to a partition: every bound of a file is one of the hard ids.
    stage_run(frame.repartition(9, F.col("user_id")), root, CANDIDATE_LISTS, RUN_A)
    del rows["candidates"]
    stage_rows(root, RUN_A, rows)
    append_publish(root, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()} | {"candidates": 27})
    bundle = open_current(root)
    for user_id in UNICODE_IDS:
        found = bundle.candidates(user_id)
        assert (found.user_id, found.origin, found.generated_at) == (user_id, "user", GENERATED_AT)
        assert found.items[0].sources[0].source == f"s0/{user_id}"
    assert set(bundle.read_table("candidates", ["user_id"])["user_id"].to_pylist()) == set(UNICODE_IDS)
    assert bundle.read_table("candidates")["generated_at"].unique().to_pylist() == [GENERATED_AT]


def test_related_gives_the_stored_list_best_first(bundle: Bundle) -> None:
    found = bundle.related("i1")
    assert [(one.item_id, one.rank, one.score) for one in found] == [
        (item_id, rank, score) for rank, (item_id, score) in enumerate(NEIGHBORS["i1"], 1)
    ]
    assert bundle.related("i1", k=2) == found[:2]


def test_related_of_an_item_without_a_list_is_empty(bundle: Bundle) -> None:
    assert bundle.related("i3") == ()
    assert bundle.related("nobody sells this") == ()


def test_related_for_a_user_puts_what_is_near_to_their_items_first(bundle: Bundle) -> None:
    # Recent items are i2 and i1: i2 is left out, and i4 is near to i2 (0.5) and to i1 (0.25), more than i3 (0.5).
    found = bundle.related("i1", user_id="u03")
    assert [one.item_id for one in found] == ["i3", "i4", "i5"]
    assert [one.score for one in found] == pytest.approx(
        [0.5 * (1 + 0.5 / 0.75), 0.25 * (1 + 0.75 / 0.75), 0.125 * (1 + 0.125 / 0.75)]
    )


def test_related_for_a_user_whom_the_run_ignores_is_the_stored_list(bundle: Bundle) -> None:
    assert bundle.related("i1", user_id="stranger") == bundle.related("i1")


def test_related_refuses_an_id_that_is_no_text(bundle: Bundle) -> None:
    with pytest.raises(ArgumentError, match="related: expected ids as text, got int"):
        bundle.related("i1", user_id=7)  # type: ignore[arg-type]


def test_related_refuses_a_list_of_nothing(bundle: Bundle) -> None:
    with pytest.raises(ArgumentError, match="related: expected k of at least 1, got 0"):
        bundle.related("i1", k=0)


def test_open_index_names_the_extra_that_brings_faiss(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    for name in ("recsys_spark.serving.index", "recsys_spark.ann.shard_files", "recsys_spark.ann.kernels.faiss_index"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(EnvironmentFault, match=r"open_index: expected the package faiss.*recsys-spark\[index\]"):
        open_index(open_current(published))
