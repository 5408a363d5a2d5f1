"""The step trains on what was engaged with before the date, puts the weights in their place and says what they are."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.context import Context
from recsys_spark.errors import ConfigError
from recsys_spark.features.declared import declared_tables
from recsys_spark.two_tower import dimensions, step_two_tower
from recsys_spark.two_tower import training_launch as training
from recsys_spark.two_tower.kernels.model_file import load_model
from recsys_spark.two_tower.training_job import State, read_job
from recsys_spark.two_tower.training_process import Training, World
from recsys_spark.warehouse.blobs import put_blob, read_blob
from recsys_spark.warehouse.scratch import Scratch
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TWO_TOWER_MODELS
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users, run_steps
from tests.kept_rows import kept_rows, kept_tables, no_broadcasts
from tests.local_frame import local_frame

# Two tastes: even users buy red things, odd ones blue things, six of eight each, on six days.
N_USERS, N_ITEMS = 24, 16
LOG = [
    Event(f"u{user:02d}", f"i{item:02d}", "buy", before(days=1 + (user + item) % 20, hours=item))
    for user in range(N_USERS)
    for item in range(user % 2, N_ITEMS, 2)
    if (user + item // 2) % 4
]
SHOWN = [Event("u00", "i01", "show", before(days=2)), Event("u00", "i03", "show", before(days=3))]
MODELS = spark_schema(TWO_TOWER_MODELS, without=("run_id",))
ITEMS = {f"i{item:02d}": {"title": f"{('red', 'blue')[item % 2]} thing {item}"} for item in range(N_ITEMS)}
SMALL = (
    'sources.enabled=["popular","two_tower"]', "two_tower.dim=8", "two_tower.hidden=16", "two_tower.n_buckets=64",
    "two_tower.batch_size=16", "two_tower.epochs=2", "two_tower.training_days=30", "two_tower.device=cpu",
    "two_tower.threads=1",
)  # fmt: skip


class Made(NamedTuple):
    """The tables of LOG, the context of a run, and what the run gave."""

    tables: dict[str, DataFrame]
    context: Context
    row: dict[str, Any]
    figures: dict[str, float]


def _run(tables: dict[str, DataFrame], context: Context) -> list[dict[str, Any]]:
    frame = step_two_tower.run(tables, context)["two_tower_models"]
    rows = [row.asDict() for row in kept_rows(frame, declared_tables()["two_tower_models"])]
    context.scratch("two_tower").drop()
    return rows


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A run whose towers are trained in a process of their own."""
    root = f"storage.root={tmp_path_factory.mktemp('warehouse')}"
    context = make_context(spark, load_config(sets=(root, TYPES_SET, *SMALL)))
    users = {f"u{user:02d}": {"attributes": {"country": "FR"}} for user in range(N_USERS)}
    catalogues = {"items": make_items(spark, ITEMS), "users": make_users(spark, users)}
    with no_broadcasts(spark):
        tables = kept_tables(run_steps({"events": make_events(spark, (*LOG, *SHOWN)), **catalogues}, context))
        context.figures.clear()
        (row,) = _run(tables, context)
        yield Made(tables, context, row, dict(context.figures))


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains in the process of the test: `made` and tests/two_tower/test_training_launch.py start others."""

    def train(scratch: Scratch, tell: training.Tell) -> tuple[State, bytes]:
        torch.set_num_threads(1)
        Training(read_job(scratch), scratch, World(0, 1, torch.device("cpu"))).run()
        return training._result(scratch)

    monkeypatch.setattr(step_two_tower, "train", train)


def test_run_stores_a_model_that_its_row_names(made: Made) -> None:
    row, figures = made.row, made.figures
    model = load_model(read_blob(made.context.config.root, row["rel_path"], row["model_version"]))
    assert model.version == row["model_version"]
    assert [field.name for field in model.item_inputs.fields][-2:] == ["days_since_first", "known_id"]
    assert model.item.ids.shape == (128, 8)  # 16 items x 8
    card = json.loads(row["card"])
    assert card["data"]["date"] == "2025-03-01"
    assert card["started_warm"] is False
    assert len(card["epochs"]) == figures["n_epochs"] == 2
    assert figures["warm"] == 0


@pytest.mark.usefixtures("trained_here")
def test_run_gives_the_same_model_for_the_same_data_whatever_the_partitions_and_without_a_usable_base(
    made: Made,
) -> None:
    context = made.context
    damaged = put_blob(context.config.root, b"not a model", ".safetensors")
    lost = made.row | {"model_version": damaged.sha256, "rel_path": damaged.rel_path}
    spread = {name: frame.repartition(3) for name, frame in made.tables.items()}
    spread["base_two_tower_models"] = local_frame(context.spark, [tuple(lost.values())], MODELS)
    assert _run(spread, context) == [made.row]
    assert context.figures["warm"] == 0


@pytest.mark.usefixtures("trained_here")
def test_run_starts_from_the_base_run_if_it_took_the_same_features(made: Made) -> None:
    base = local_frame(made.context.spark, [tuple(made.row.values())], MODELS)
    (warm,) = _run(made.tables | {"base_two_tower_models": base}, made.context)
    assert made.context.figures["warm"] == 1
    assert warm["model_version"] != made.row["model_version"]


def test_run_trains_nothing_that_no_source_asks_for(spark: SparkSession, make_config) -> None:
    context = make_context(spark, make_config('sources.enabled=["popular"]'))
    assert _run({}, context) == []
    assert context.warnings == []


def test_run_without_torch_says_how_to_get_it_and_gives_no_towers(
    spark: SparkSession, make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dimensions, "has_torch", lambda: False)
    context = make_context(spark, make_config(*SMALL))
    assert _run({}, context) == []
    (warning,) = context.warnings
    assert "run `pip install 'recsys-spark[towers]'`" in warning


def test_run_names_a_feature_that_means_nothing(made: Made, spark: SparkSession, make_config) -> None:
    context = make_context(spark, make_config(TYPES_SET, *SMALL, 'two_tower.item_features=["titel"]'))
    with pytest.raises(ConfigError, match=r"\[two_tower\] item_features: expected columns .*, got 'titel'; known are"):
        _run(made.tables, context)


def test_histories_of_the_defaults_are_kept(make_config) -> None:
    config = make_config()
    assert config.two_tower.history_items <= config.features.recent_items


def test_run_refuses_histories_longer_than_those_that_users_are_embedded_by(spark: SparkSession, make_config) -> None:
    context = make_context(spark, make_config(*SMALL, "features.recent_items=5", "two_tower.history_items=6"))
    with pytest.raises(ConfigError, match=r"history_items: expected at most \[features\] recent_items, 5, got 6;"):
        step_two_tower.run({}, context)
