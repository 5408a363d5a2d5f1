"""What holds for every source in the folder: declared settings, known tables, lists of the form that blend needs."""

import ast
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.context import Context
from recsys_spark.plan import step
from recsys_spark.retrieval import sources
from recsys_spark.retrieval.declared import SourceParams, discover, load
from recsys_spark.warehouse.spark_check import check_rows, check_schema, measure_rows
from recsys_spark.warehouse.tables import TABLES
from tests.engagement import (
    TYPES_SET,
    Event,
    before,
    make_context,
    make_items,
    make_users,
    oracle_interactions,
    settings,
)
from tests.indexed_log import indexed_log
from tests.proposed import proposed
from tests.staged_lists import frame

every_source = pytest.mark.parametrize("name", discover())


def _many_events() -> list[Event]:
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


LOGS = {"many events": _many_events(), "one event": [Event("u1", "i1", "buy", before(days=1))]}


@pytest.fixture(scope="module")
def context(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Context:
    root = tmp_path_factory.mktemp("sources")
    return make_context(spark, load_config(sets=(f"storage.root={root}", TYPES_SET, "segments.attribute=country")))


def _tables(context: Context, log: list[Event]) -> dict[str, DataFrame]:
    """What the steps before make of a log, which have tests of their own; vectors depend on the idx alone."""
    users, items = sorted(f"u{number}" for number in range(30)), sorted({event.item_id for event in log})
    rows: dict[str, list[dict[str, Any]]] = {
        "user_features": [{"user_id": name, "segment": "FR", "recent_items": []} for name in users],
        "item_neighbors": _neighbors(oracle_interactions(log, context.config, {}), items),
        "ann_shards": [],
    }
    for kind, names in (("user", users), ("item", items)):
        vectors = [[math.sin(idx * (place + 1)) for place in range(3)] for idx in range(len(names))]
        for table, model in (("factors", {"weight": 1.0, "n": 1}), ("embeddings", {"model_version": "m"})):
            rows[f"{kind}_{table}"] = [
                {f"{kind}_idx": idx, f"{kind}_id": name, "vector": vector, "norm": math.hypot(*vector), "shown": True}
                | model
                for idx, (name, vector) in enumerate(zip(names, vectors, strict=True))
            ]
    # Two items each share a word; no item but those of the events, so that their indices stay.
    catalogue = {name: {"title": f"word{idx // 2}"} for idx, name in enumerate(items)}
    spark = context.spark
    return {name: frame(spark, name, made) for name, made in rows.items()} | {
        **indexed_log(context, log, users=users),
        "items": make_items(spark, catalogue),
        "users": make_users(spark, {name: {"attributes": {"country": "FR"}} for name in users}),
    }


def _neighbors(pairs: Mapping[tuple[str, str], tuple], items: list[str]) -> list[dict[str, Any]]:
    """Rows of `item_neighbors`: items by the cosine of the users who have them."""
    had = [{user for user, one in pairs if one == item and pairs[user, one][0] > 0} for item in items]
    near = [
        [
            {"item_idx": other, "item_id": items[other], "score": score}
            for other in range(len(items))
            if other != item and (score := len(had[item] & had[other]) / math.sqrt(len(had[item]) * len(had[other])))
        ]
        for item in range(len(items))
    ]
    return [
        {
            "item_idx": item,
            "item_id": items[item],
            "neighbors": sorted(row, key=lambda one: (-one["score"], one["item_idx"])),
        }
        for item, row in enumerate(near)
        if row
    ]


Lists = Callable[[str, str, int], DataFrame]


@pytest.fixture(scope="module")
def lists_of(spark: SparkSession, context: Context) -> Lists:
    """The lists of a source, as rows that it made of a log by so many partitions.

    What is in seven partitions has its rows in another order than what is in three.
    """

    @cache
    def tables_of(log: str, partitions: int) -> dict[str, DataFrame]:
        events = LOGS[log] if partitions == 3 else LOGS[log][::-1]
        return {name: rows.repartition(partitions).persist() for name, rows in _tables(context, events).items()}

    @cache
    def run(name: str, log: str, partitions: int) -> DataFrame:
        tables = tables_of(log, partitions)
        sources_of = context.config.sources.model_copy(update={"enabled": [name]})
        config = context.config.model_copy(update={"sources": sources_of})
        with settings(spark, spark__sql__shuffle__partitions=partitions):
            lists = proposed(name, tables, replace(context, config=config))
            check_schema(lists, TABLES["source_candidates"], without=("run_id",))
            return spark.createDataFrame(lists.toArrow(), lists.schema)

    return run


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
    own = {top for top in tops if top.startswith("recsys_spark")}
    assert own <= {"recsys_spark.config.models", "recsys_spark.config.types", "recsys_spark.retrieval.declared"}
    assert not [top for top in tops - own if top.startswith(("pyspark", "numpy"))]


@every_source
def test_source_makes_lists_of_contract_form(name: str, lists_of: Lists) -> None:
    lists = lists_of(name, "many events", 3)
    check_rows(measure_rows(lists, TABLES["source_candidates"]), TABLES["source_candidates"], name)
    rows = lists.collect()
    assert rows
    for row in rows:
        assert row["source"].partition("/")[0] == name
        assert row["user_idx"] is None or row["segment"] is None
        items = row["items"]
        assert items
        assert [item["rank"] for item in items] == list(range(1, len(items) + 1))
        assert len({item["item_idx"] for item in items}) == len(items)
        assert [(-item["score"], item["item_idx"]) for item in items] == sorted(
            (-item["score"], item["item_idx"]) for item in items
        )
    assert len({(row["source"], row["user_idx"], row["segment"]) for row in rows}) == len(rows)


@every_source
def test_source_makes_the_same_lists_whatever_the_partitioning(name: str, lists_of: Lists) -> None:
    answers = [
        sorted(
            lists_of(name, "many events", partitions).collect(),
            key=lambda row: (row["source"], row["user_idx"] or -1, row["segment"] or ""),
        )
        for partitions in (3, 7)
    ]
    assert answers[0] == answers[1]


@every_source
def test_source_survives_a_log_of_one_event(name: str, lists_of: Lists) -> None:
    rows = lists_of(name, "one event", 3).collect()
    assert {item["item_idx"] for row in rows for item in row["items"]} <= {0}
