"""The step trains on what was engaged with before the date, puts the weights in their place and says what they are."""

import json

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config_file import load_config
from recsys_spark.errors import ConfigError
from recsys_spark.features import declared_tables
from recsys_spark.kernels.tower_model import load_model
from recsys_spark.steps import two_tower
from recsys_spark.steps.context import Context
from recsys_spark.tables.blobs import put_blob, read_blob
from recsys_spark.tables.check import check_rows, check_schema, measure_rows
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users, run_steps

# Two tastes: even users buy red things, odd ones blue things, six of eight each, on six days.
N_USERS, N_ITEMS = 24, 16
LOG = [
    Event(f"u{user:02d}", f"i{item:02d}", "buy", before(days=1 + (user + item) % 20, hours=item))
    for user in range(N_USERS)
    for item in range(user % 2, N_ITEMS, 2)
    if (user + item // 2) % 4
]
SHOWN = [Event("u00", "i01", "show", before(days=2)), Event("u00", "i03", "show", before(days=3))]
ITEMS = {f"i{item:02d}": {"title": f"{('red', 'blue')[item % 2]} thing {item}"} for item in range(N_ITEMS)}
SMALL = (
    'sources.enabled=["popular","two_tower"]', "two_tower.dim=8", "two_tower.hidden=16", "two_tower.n_buckets=64",
    "two_tower.batch_size=16", "two_tower.epochs=2", "two_tower.training_days=30", "two_tower.device=cpu",
)  # fmt: skip


def _tables(spark: SparkSession, make_config, *sets: str, log=(*LOG, *SHOWN)) -> tuple[dict[str, DataFrame], Context]:
    context = make_context(spark, make_config(TYPES_SET, *SMALL, *sets))
    users = {f"u{user:02d}": {"attributes": {"country": "FR"}} for user in range(N_USERS)}
    catalogues = {"items": make_items(spark, ITEMS), "users": make_users(spark, users)}
    tables = run_steps({"events": make_events(spark, log), **catalogues}, context)
    context.figures.clear()
    return {name: frame.persist() for name, frame in tables.items()}, context


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, DataFrame], Context]:
    """The tables of a small log, made once."""
    root = f"storage.root={tmp_path_factory.mktemp('warehouse')}"
    return _tables(spark, lambda *sets: load_config(sets=(root, *sets)))


def _run(tables: dict[str, DataFrame], context: Context) -> list[dict]:
    frame = two_tower.run(tables, context)["two_tower_models"]
    table = declared_tables()["two_tower_models"]
    check_schema(frame, table, without=("run_id",))
    check_rows(measure_rows(frame, table), table, "in a test")
    context.scratch("two_tower").drop()
    return [row.asDict() for row in frame.collect()]


def test_run_stores_a_model_that_its_row_names(made) -> None:
    tables, context = made
    (row,) = _run(tables, context)
    model = load_model(read_blob(context.config.root, row["rel_path"], row["model_version"]))
    assert model.version == row["model_version"]
    assert [field.name for field in model.item_inputs.fields][-2:] == ["days_since_first", "known_id"]
    assert model.item.ids.shape == (128, 8)  # 16 items x 8
    card = json.loads(row["card"])
    assert card["data"]["date"] == "2025-03-01"
    assert len(card["epochs"]) == context.figures["n_epochs"] == 2
    assert context.figures["warm"] == 0


def test_run_gives_the_same_model_for_the_same_data_whatever_the_partitions(made) -> None:
    tables, context = made
    first = _run(tables, context)
    spread = {name: frame.repartition(3) for name, frame in tables.items()}
    assert _run(spread, context) == first


def test_run_starts_from_the_base_run_if_it_took_the_same_features(spark: SparkSession, made) -> None:
    tables, context = made
    (row,) = _run(tables, context)
    base = spark.createDataFrame([tuple(row.values())], list(row))
    (warm,) = _run(tables | {"base_two_tower_models": base}, context)
    assert context.figures["warm"] == 1
    assert warm["model_version"] != row["model_version"]
    damaged = put_blob(context.config.root, b"not a model", ".safetensors")
    lost = base.replace(row["model_version"], damaged.sha256, "model_version").replace(
        row["rel_path"], damaged.rel_path, "rel_path"
    )
    (cold,) = _run(tables | {"base_two_tower_models": lost}, context)
    assert context.figures["warm"] == 0
    assert cold == row


def test_run_trains_nothing_that_no_source_asks_for(spark: SparkSession, make_config) -> None:
    context = make_context(spark, make_config('sources.enabled=["popular"]'))
    assert _run({}, context) == []


def test_run_names_a_feature_that_means_nothing(made, spark: SparkSession, make_config) -> None:
    tables, _ = made
    context = make_context(spark, make_config(TYPES_SET, *SMALL, 'two_tower.item_features=["titel"]'))
    with pytest.raises(ConfigError, match=r"\[two_tower\] item_features: expected columns .*, got 'titel'; known are"):
        _run(tables, context)


def test_histories_of_the_defaults_are_kept(make_config) -> None:
    config = make_config()
    assert config.two_tower.history_items <= config.features.recent_items


def test_run_refuses_histories_longer_than_those_that_users_are_embedded_by(spark: SparkSession, make_config) -> None:
    context = make_context(spark, make_config(*SMALL, "features.recent_items=5", "two_tower.history_items=6"))
    with pytest.raises(ConfigError, match=r"history_items: expected at most \[features\] recent_items, 5, got 6;"):
        two_tower.run({}, context)
