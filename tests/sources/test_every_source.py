"""What holds for every source in the folder: declared settings, known tables, lists of the form that blend needs."""

import ast
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark import sources
from recsys_spark.config import Config
from recsys_spark.config_file import load_config
from recsys_spark.plan import step
from recsys_spark.sources import SourceParams, check_params, discover, load
from recsys_spark.steps import als, item_cf
from recsys_spark.steps.context import Context
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.check import check_rows, check_schema, measure_rows
from recsys_spark.tables.spark import spark_schema
from tests.engagement import (
    TYPES_SET,
    Event,
    before,
    make_context,
    make_events,
    make_items,
    make_users,
    run_steps,
    settings,
)

every_source = pytest.mark.parametrize("name", discover())


@pytest.fixture(scope="module")
def log() -> list[Event]:
    """Sixty days of thirty users and forty items, some events without a user."""
    rng = random.Random(3)
    users = [None, *[f"u{number}" for number in range(30)]]
    return [
        Event(
            rng.choice(users),
            f"i{int(40 * rng.random() ** 2):02d}",
            rng.choice(["buy", "buy", "rate", "return", "show"]),
            before(seconds=rng.randint(1, 60 * 86400)),
            1.0,
        )
        for _ in range(800)
    ]


World = tuple[dict[str, DataFrame], Context]
Worlds = Callable[[str], World]


@pytest.fixture(scope="module")
def worlds(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, log: list[Event]) -> Worlds:
    """What the steps before made of a log, by name; made once, for all sources read it."""
    config = load_config(
        sets=(f"storage.root={tmp_path_factory.mktemp('sources')}", TYPES_SET, "segments.attribute=country")
    )
    logs = {
        "whole": make_events(spark, log),
        "three parts": make_events(spark, log).repartition(3),
        "seven parts, reversed": make_events(spark, list(reversed(log))).repartition(7),
        "one event": make_events(spark, [Event("u1", "i1", "buy", before(days=1))]),
    }

    @cache
    def world(name: str) -> World:
        return _world(spark, config, logs[name])

    return world


def _world(spark: SparkSession, config: Config, events: DataFrame) -> World:
    context = make_context(spark, config)
    users = make_users(spark, {f"u{number}": {"attributes": {"country": "FR"}} for number in range(30)})
    # Two items each share a word; no item but those of the events, so that their indices stay.
    ids = sorted(row.item_id for row in events.select("item_id").distinct().collect())
    items = make_items(spark, {name: {"title": f"word{number // 2}"} for number, name in enumerate(ids)})
    tables = {"events": events, "items": items, "users": users}
    tables = {name: frame.persist() for name, frame in run_steps(tables, context).items()}
    for module in (item_cf, als):
        tables |= {name: frame.persist() for name, frame in module.run(tables, context).items()}
    tables["ann_shards"] = spark.createDataFrame([], spark_schema(TABLES["ann_shards"], without=("run_id",)))
    for kind in ("user", "item"):
        tables |= {f"{kind}_embeddings": _embeddings(tables[f"{kind}_index"], kind)}
    return tables, context


def _embeddings(index: DataFrame, kind: str) -> DataFrame:
    """Vectors that depend on the idx alone; the step that makes them has tests of its own."""
    vector = F.array(*[F.sin(F.col(f"{kind}_idx") * (place + 1)).cast("float") for place in range(3)])
    norm = F.sqrt(F.aggregate("vector", F.lit(0.0), lambda total, one: total + one * one)).cast("float").alias("norm")
    return index.withColumn("vector", vector).select("*", norm, F.lit(True).alias("shown"))


def _lists(name: str, world: World) -> DataFrame:
    tables, context = world
    source = load(name)
    sources_of = context.config.sources.model_copy(update={"enabled": [name]})
    config = context.config.model_copy(update={"sources": sources_of})
    params = check_params(config)[name]
    return source.generate({table: tables[table] for table in source.READS}, params, replace(context, config=config))


@every_source
def test_source_declares_strict_settings_with_defaults_in_base_alone(name: str, make_config) -> None:
    params = load(name).Params
    assert issubclass(params, SourceParams)
    assert all(field.is_required() for field in params.model_fields.values())
    assert set(make_config().sources.params(name)) == set(params.model_fields)


@every_source
def test_source_reads_tables_that_the_plan_gives_it(name: str) -> None:
    assert set(load(name).READS) <= set(step("retrieve").reads)


@every_source
def test_source_imports_nothing_heavy_before_it_generates(name: str) -> None:
    tree = ast.parse((Path(sources.__path__[0]) / f"{name}.py").read_text(encoding="utf-8"))
    tops = {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not [
        top
        for top in tops
        if top.startswith(("pyspark", "numpy", "recsys_spark.adapters", "recsys_spark.tables.spark"))
    ]


@every_source
def test_source_makes_lists_of_contract_form(name: str, worlds: Worlds) -> None:
    lists = _lists(name, worlds("whole")).persist()
    check_schema(lists, TABLES["source_candidates"], without=("run_id",))
    check_rows(measure_rows(lists, TABLES["source_candidates"]), TABLES["source_candidates"], name)
    assert lists.count() > 0
    named = (F.col("source") == name) | F.col("source").startswith(f"{name}/")
    one_scope = F.col("user_idx").isNull() | F.col("segment").isNull()
    assert lists.where(~named | ~one_scope).count() == 0
    assert lists.groupBy("source", "user_idx", "segment").count().where("count > 1").count() == 0
    for row in lists.collect():
        items = row["items"]
        assert items
        assert [item["rank"] for item in items] == list(range(1, len(items) + 1))
        assert len({item["item_idx"] for item in items}) == len(items)
        assert [(-item["score"], item["item_idx"]) for item in items] == sorted(
            (-item["score"], item["item_idx"]) for item in items
        )


@every_source
def test_source_makes_the_same_lists_whatever_the_partitioning(name: str, spark: SparkSession, worlds: Worlds) -> None:
    answers = []
    for partitions, log_name in ((3, "three parts"), (7, "seven parts, reversed")):
        with settings(spark, spark__sql__shuffle__partitions=partitions):
            lists = _lists(name, worlds(log_name))
            answers.append(
                sorted(lists.collect(), key=lambda row: (row["source"], row["user_idx"] or -1, row["segment"] or ""))
            )
    assert answers[0] == answers[1]


@every_source
def test_source_survives_a_log_of_one_event(name: str, worlds: Worlds) -> None:
    rows = _lists(name, worlds("one event")).collect()
    assert {item["item_idx"] for row in rows for item in row["items"]} <= {0}
