"""The source `content` proposes what reads like a user's items, also what nobody has had."""

from math import hypot, sqrt
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.adapters import sent
from recsys_spark.errors import ConfigError, KernelError
from recsys_spark.sources import check_params, content
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.check import check_schema
from recsys_spark.tables.spark import spark_schema
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users, run_steps
from tests.index_files import make_shards, unit_vectors

NEW, OLD = {"created_at": before(days=3)}, {"created_at": before(days=900)}
CATALOGUE: dict[str, dict[str, Any]] = {
    "teapot": {"title": "Brass teapot with dragon"},
    "kettle": {"title": "Kettle with dragon", **NEW},  # nobody had it
    "gong": {"title": "BRASS gong", "brand": "Ping", **NEW},  # nobody had it
    "urn": {"title": "Brass dragon urn", **OLD},  # nobody had it, and it is not shown
    "sock": {"title": "Wool sock", "brand": "ping"},
    "shawl": {"title": "Wool shawl", **NEW},
    "plain": {"title": None},
    "lamp": {"title": "Lamp"},
}
LOG = [
    Event("ann", "teapot", "buy", before(days=1)),
    Event("bob", "sock", "buy", before(days=1)),
    Event("cleo", "plain", "buy", before(days=1)),
    Event("dora", "lamp", "buy", before(days=1)),
    Event("eve", "not in the catalogue", "buy", before(days=1)),
    Event("fay", "sock", "buy", before(days=2)),
    Event("fay", "teapot", "buy", before(days=1)),
    Event("gus", "teapot", "hide", before(days=1)),
]
# Words that others have too count alone, so that a score is told by counting them.
PLAIN = ("sources.content.min_df=2", "sources.content.max_df_ratio=1.0")
UNDECAYED = ("sources.content.half_life_days=0", "interactions.half_life_days=0")

Lists = dict[str, list[tuple[str, float]]]


def _lists(
    spark: SparkSession, make_config, *sets: str, catalogue: dict[str, dict[str, Any]] = CATALOGUE, log=LOG
) -> Lists:
    config = make_config(TYPES_SET, 'sources.enabled=["content"]', *PLAIN, *sets)
    context = make_context(spark, config)
    inputs = {"events": make_events(spark, log), "items": make_items(spark, catalogue), "users": make_users(spark, {})}
    tables = run_steps(inputs, context)
    frame = content.generate(tables, check_params(config)["content"], context)
    check_schema(frame, TABLES["source_candidates"], without=("run_id",))
    rows = frame.collect()
    users = {row.user_idx: row.user_id for row in tables["user_index"].collect()}
    items = {row.item_idx: row.item_id for row in tables["item_index"].collect()}
    return {users[row.user_idx]: [(items[one.item_idx], one.score) for one in row["items"]] for row in rows}


def _items(lists: Lists) -> dict[str, list[str]]:
    return {user: [item for item, _ in row] for user, row in lists.items()}


def test_generate_proposes_what_reads_alike_also_if_nobody_had_it(spark: SparkSession, make_config) -> None:
    # Of its three words that count the teapot shares two with the kettle, 2 / sqrt(3 * 2), and one with the
    # gong, 1 / sqrt(3 * 2); the sock one of its two with the shawl, 1 / sqrt(2), and with the gong, 1 / 2.  Nothing
    # reads like what cleo, dora and eve have, and gus, who dislikes the teapot, has nothing.
    assert _items(_lists(spark, make_config)) == {
        "ann": ["kettle", "gong"],
        "bob": ["shawl", "gong"],
        "fay": ["gong", "kettle", "shawl"],
    }


def test_generate_sums_weight_times_similarity(spark: SparkSession, make_config) -> None:
    lists = {user: dict(row) for user, row in _lists(spark, make_config, *UNDECAYED).items()}
    # All tokens that count are in two items each, and so have the same weight.
    expected = {"kettle": 2 / sqrt(3 * 2), "gong": 1 / sqrt(3 * 2) + 1 / 2, "shawl": 1 / sqrt(2)}
    assert lists["fay"] == pytest.approx(expected, rel=1e-6)  # float32


def test_generate_lets_the_history_decay(spark: SparkSession, make_config) -> None:
    sets = ("sources.content.half_life_days=1", "interactions.half_life_days=0")
    # A bought teapot is a day old, fay's sock two.
    lists = {user: dict(row) for user, row in _lists(spark, make_config, *sets).items()}
    assert lists["fay"]["shawl"] == pytest.approx(lists["bob"]["shawl"] / 2, rel=1e-6)  # float32


def test_generate_counts_the_newest_items_of_a_user(spark: SparkSession, make_config) -> None:
    assert _items(_lists(spark, make_config, "sources.content.history_items=1"))["fay"] == ["kettle", "gong"]


def test_generate_reads_the_named_fields(spark: SparkSession, make_config) -> None:
    assert _items(_lists(spark, make_config, 'sources.content.fields=["brand"]')) == {"bob": ["gong"], "fay": ["gong"]}


def test_generate_cuts_lists_of_items_and_of_users(spark: SparkSession, make_config) -> None:
    assert _items(_lists(spark, make_config, "sources.content.num_neighbors=1"))["fay"] == ["kettle", "shawl"]
    assert _items(_lists(spark, make_config, "sources.content.max_items=1"))["fay"] == ["gong"]


def test_generate_passes_over_words_that_are_too_common_or_too_rare(spark: SparkSession, make_config) -> None:
    # Every word and brand that any two items share is in two of six: a third.
    assert _lists(spark, make_config, "sources.content.min_df=3") == {}
    assert _lists(spark, make_config, "sources.content.max_df_ratio=0.2") == {}


def test_generate_sends_the_neighbors_of_what_is_had_alone(
    spark: SparkSession, make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two of the teapot and two of the sock, 8 bytes each; kettle, gong and shawl have neighbours, too.
    monkeypatch.setattr(sent, "MAX_LISTS_BYTES", 4 * 8)
    assert len(_lists(spark, make_config)) == 3
    monkeypatch.setattr(sent, "MAX_LISTS_BYTES", 4 * 8 - 1)
    with pytest.raises(KernelError, match=r"got 32; lower sources\.content\.num_neighbors"):
        _lists(spark, make_config)


@pytest.mark.parametrize("catalogue", [{}, {"plain": {"title": None}}], ids=["empty", "without text"])
def test_generate_proposes_nothing_where_nothing_is_written(spark: SparkSession, make_config, catalogue) -> None:
    assert _lists(spark, make_config, catalogue=catalogue) == {}


def test_generate_proposes_nothing_without_events(spark: SparkSession, make_config) -> None:
    assert _lists(spark, make_config, log=[]) == {}
    assert _lists(spark, make_config, log=[], catalogue={}) == {}


@pytest.mark.parametrize("text", ["fields=[]", 'fields=[""]', "max_df_ratio=0.0", "max_df_ratio=1.1", "min_df=0"])
def test_params_refuse_what_would_leave_no_token(make_config, text: str) -> None:
    with pytest.raises(ConfigError, match=r"sources\.content"):
        check_params(make_config(f"sources.content.{text}"))


def test_generate_by_towers_follows_the_directions_of_item_embeddings(spark: SparkSession, make_config) -> None:
    config = make_config(TYPES_SET, 'sources.enabled=["content"]', "sources.content.by=towers", *UNDECAYED)
    context = make_context(spark, config)
    inputs = {"events": make_events(spark, LOG), "items": make_items(spark, CATALOGUE), "users": make_users(spark, {})}
    tables = run_steps(inputs, context)
    # Lengths do not count; the urn would be nearest, but is not shown.
    vectors = {"teapot": [2.0, 0.0], "kettle": [6.0, 8.0], "gong": [0.5, 0.0], "urn": [9.0, 0.0], "sock": [0.0, 1.0]}
    ids = {row.item_id: row.item_idx for row in tables["item_index"].collect()}
    rows = [(ids[name], vector, hypot(*vector), name != "urn") for name, vector in vectors.items()]
    schema = "item_idx int, vector array<float>, norm float, shown boolean"
    tables["item_embeddings"] = spark.createDataFrame(rows, schema)
    frame = content.generate(tables, check_params(config)["content"], context)
    check_schema(frame, TABLES["source_candidates"], without=("run_id",))
    users = {row.user_id: row.user_idx for row in tables["user_index"].collect()}
    names = {idx: name for name, idx in ids.items()}
    lists = {row.user_idx: [(names[one.item_idx], one.score) for one in row["items"]] for row in frame.collect()}
    ann = dict(lists[users["ann"]])
    # By cosine: 1, 6 / 10, and 0 for the sock, which is nothing.
    assert list(ann) == ["gong", "kettle"]
    assert ann == pytest.approx({"gong": 1.0, "kettle": 0.6}, abs=1e-6)
    assert dict(lists[users["fay"]]) == pytest.approx({"gong": 1.0 + 0.0, "kettle": 0.6 + 0.8}, abs=1e-6)


def test_generate_by_towers_gives_the_same_lists_by_the_index(spark: SparkSession, make_config) -> None:
    towers = ('sources.enabled=["content"]', "sources.content.by=towers", *UNDECAYED)
    config = make_config(TYPES_SET, *towers)
    inputs = {"events": make_events(spark, LOG), "items": make_items(spark, CATALOGUE), "users": make_users(spark, {})}
    tables = {name: frame.persist() for name, frame in run_steps(inputs, make_context(spark, config)).items()}
    vectors = unit_vectors(tables["item_index"].count(), 2)
    rows = [(idx, vector.tolist(), 1.0, True) for idx, vector in enumerate(vectors)]
    schema = "item_idx int, vector array<float>, norm float, shown boolean"
    tables["item_embeddings"] = spark.createDataFrame(rows, schema)
    manifest = spark_schema(TABLES["ann_shards"], without=("run_id",))
    shards = make_shards(config.root, vectors, 2, "Flat")
    tables["ann_shards"] = spark.createDataFrame(
        [tuple(row[name] for name in manifest.names) for row in shards], manifest
    )
    found = {}
    for search in ("exact", "ann"):
        context = make_context(spark, make_config(TYPES_SET, *towers, f"ann.search={search}"))
        lists = content.generate(tables, check_params(config)["content"], context).collect()
        found[search] = {row.user_idx: {one.item_idx: one.score for one in row["items"]} for row in lists}
    assert found["ann"]
    assert found["ann"].keys() == found["exact"].keys()
    for user, entries in found["exact"].items():
        # Exact search makes units of the embeddings, the index takes them as they are: units but for rounding.
        assert found["ann"][user] == pytest.approx(entries, abs=1e-6)
