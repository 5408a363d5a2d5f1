"""The source `content` proposes what reads like a user's items, also what nobody has had."""

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot, sqrt
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.errors import ConfigError, KernelError
from recsys_spark.retrieval.declared import check_params
from recsys_spark.spark import broadcast
from recsys_spark.warehouse.spark_check import check_schema, spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.engagement import TYPES_SET, Event, before, make_context, make_items
from tests.index_files import make_shards
from tests.indexed_log import indexed_log, names_of
from tests.proposed import proposed

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
    Event("hal", "teapot", "buy", before(days=2)),
    Event("hal", "sock", "buy", before(days=1)),
]
# Words that others have too count alone, so that a score is told by counting them.
PLAIN = ("sources.content.min_df=2", "sources.content.max_df_ratio=1.0")
UNDECAYED = "sources.content.half_life_days=0"

Lists = dict[str, list[tuple[str, float]]]
Propose = Callable[..., Lists]


@dataclass(frozen=True)
class World:
    """The tables of a log, in which every purchase weighs 1, and the ids of its users and items by index."""

    tables: dict[str, DataFrame]
    users: dict[int, str]
    items: dict[int, str]

    def idx_of(self, item_id: str) -> int:
        return next(idx for idx, name in self.items.items() if name == item_id)


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("content")
    config = load_config(sets=(f"storage.root={root}", TYPES_SET, "interactions.half_life_days=0"))
    tables = indexed_log(make_context(spark, config), LOG, items=CATALOGUE) | {"items": make_items(spark, CATALOGUE)}
    return World(tables, names_of(tables, "user"), names_of(tables, "item"))


@pytest.fixture
def propose(spark: SparkSession, world: World, make_config: Callable[..., Config]) -> Propose:
    """The lists of the world by user, with settings laid over the defaults and other tables over those of the world."""

    def run(*sets: str, **tables: DataFrame) -> Lists:
        config = make_config(TYPES_SET, 'sources.enabled=["content"]', *sets)
        context = make_context(spark, config)
        frame = proposed("content", world.tables | tables, context)
        check_schema(frame, TABLES["source_candidates"], without=("run_id",))
        return {
            world.users[row.user_idx]: [(world.items[one.item_idx], one.score) for one in row["items"]]
            for row in frame.collect()
        }

    return run


def _scores(lists: Lists, rel: float = 1e-6) -> dict[str, Any]:
    """The lists, in their order, with scores that are met but for the rounding of float32."""
    return {user: [(item, pytest.approx(score, rel=rel)) for item, score in row] for user, row in lists.items()}


def test_generate_sums_weight_times_similarity_also_for_what_nobody_had(
    propose: Propose, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All tokens that count are in two items each, and so have the same weight.  Of its three the teapot shares two with
    # the kettle and one with the gong; the sock one of its two with the shawl and with the gong, whose brand it has.
    kettle, gong, shawl, gong_of_sock = 2 / sqrt(3 * 2), 1 / sqrt(3 * 2), 1 / sqrt(2), 1 / 2
    # Lists of the teapot and of the sock, two each, are sent, 8 bytes an item; kettle, gong and shawl have some too.
    monkeypatch.setattr(broadcast, "MAX_LISTS_BYTES", 4 * 8)
    # Nothing reads like what cleo, dora and eve have; gus, who dislikes the teapot, has nothing.  No list has a third.
    assert propose(*PLAIN, UNDECAYED, "sources.content.max_items=2") == _scores(
        {
            "ann": [("kettle", kettle), ("gong", gong)],
            "bob": [("shawl", shawl), ("gong", gong_of_sock)],
            "fay": [("gong", gong + gong_of_sock), ("kettle", kettle)],
            "hal": [("gong", gong + gong_of_sock), ("kettle", kettle)],
        }
    )


def test_generate_lets_the_history_decay_and_takes_the_nearest_of_an_item(propose: Propose) -> None:
    sets = ("sources.content.half_life_days=1", "sources.content.num_neighbors=1")
    kettle, shawl, day, two_days = 2 / sqrt(3 * 2), 1 / sqrt(2), 1 / 2, 1 / 4
    # The gong is the second of the teapot and of the sock.
    assert propose(*PLAIN, *sets) == _scores(
        {
            "ann": [("kettle", day * kettle)],
            "bob": [("shawl", day * shawl)],
            "fay": [("kettle", day * kettle), ("shawl", two_days * shawl)],
            "hal": [("shawl", day * shawl), ("kettle", two_days * kettle)],
        }
    )


def test_generate_reads_the_named_fields_of_the_newest_items_for_what_is_neither_common_nor_rare(
    spark: SparkSession, propose: Propose
) -> None:
    fields: dict[str, dict[str, Any]] = {
        # pong is in two, and too rare; hall is in four of the seven, more than half, and too common
        "teapot": {"brand": "pong", "attributes": {"room": "hall"}},
        "kettle": {"brand": "pong", "attributes": {"room": "hall"}, **NEW},
        # ping and attic are in three each
        "gong": {"brand": "ping", "attributes": {"room": "hall"}, **NEW},
        "sock": {"brand": "ping", "attributes": {"room": "attic"}},
        "shawl": {"brand": "ping", "attributes": {"room": "attic"}, **NEW},
        "lamp": {"attributes": {"room": "attic"}},
        "plain": {"attributes": {"room": "hall"}},
    }
    items = make_items(spark, {name: {"title": "nobody reads this"} | row for name, row in fields.items()})
    sets = ('fields=["brand","room"]', "min_df=3", "max_df_ratio=0.5", "history_items=1", "half_life_days=0")
    # The newest of fay is the teapot, that of hal the sock.  Equals are in the order of their names.
    like_sock = [("shawl", 2 / 2), ("gong", 1 / sqrt(2)), ("lamp", 1 / sqrt(2))]
    assert propose(*(f"sources.content.{one}" for one in sets), items=items) == _scores(
        {"bob": like_sock, "hal": like_sock, "dora": [("shawl", 1 / sqrt(2)), ("sock", 1 / sqrt(2))]}
    )


def test_generate_refuses_more_neighbors_than_it_can_send(propose: Propose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "MAX_LISTS_BYTES", 4 * 8 - 1)
    with pytest.raises(KernelError, match=r"got 32; lower sources\.content\.num_neighbors"):
        propose(*PLAIN)


@pytest.mark.parametrize("catalogue", [{}, {"plain": {"title": None}}], ids=["empty", "without text"])
def test_generate_proposes_nothing_where_nothing_is_written(spark: SparkSession, propose: Propose, catalogue) -> None:
    assert propose(*PLAIN, items=make_items(spark, catalogue)) == {}


@pytest.mark.parametrize("emptied", [(), ("items", "item_index")], ids=["items", "no items"])
def test_generate_proposes_nothing_without_events(
    spark: SparkSession, world: World, propose: Propose, emptied: tuple[str, ...]
) -> None:
    names = ("events", "interactions", "user_index", *emptied)
    nothing = {name: spark.createDataFrame([], world.tables[name].schema) for name in names}
    assert propose(*PLAIN, **nothing) == {}


@pytest.mark.parametrize("text", ["fields=[]", 'fields=[""]', "max_df_ratio=0.0", "max_df_ratio=1.1", "min_df=0"])
def test_params_refuse_what_would_leave_no_token(make_config, text: str) -> None:
    with pytest.raises(ConfigError, match=r"sources\.content"):
        check_params(make_config(f"sources.content.{text}"))


# Lengths do not count; the urn would be nearest, but is not shown.
VECTORS = {"teapot": [2.0, 0.0], "kettle": [6.0, 8.0], "gong": [0.5, 0.0], "urn": [9.0, 0.0], "sock": [0.0, 1.0]}


@pytest.mark.parametrize("search", ["exact", "ann"])
def test_generate_by_towers_follows_the_directions_of_item_embeddings(
    spark: SparkSession, world: World, propose: Propose, make_config: Callable[..., Config], search: str
) -> None:
    rows = [(world.idx_of(name), vector, hypot(*vector), name != "urn") for name, vector in VECTORS.items()]
    embeddings = spark.createDataFrame(rows, "item_idx int, vector array<float>, norm float, shown boolean")
    # Exact search makes units of the embeddings, the index takes them as they are.  The last item is the urn.
    units = np.zeros((len(world.items) - 1, 2), np.float32)
    for idx, vector, norm, shown in rows:
        if shown:
            units[idx] = np.array(vector) / norm
    manifest = spark_schema(TABLES["ann_shards"], without=("run_id",))
    shards = [tuple(row[name] for name in manifest.names) for row in make_shards(make_config().root, units, 2, "Flat")]
    found = propose(
        "sources.content.by=towers",
        f"ann.search={search}",
        UNDECAYED,
        item_embeddings=embeddings,
        ann_shards=spark.createDataFrame(shards, manifest),
    )
    # By cosine to the teapot: 1, 6 / 10, and 0 for the sock, which is nothing; to the sock: 8 / 10 for the kettle.
    kettle_first = [("kettle", 0.6 + 0.8), ("gong", 1.0 + 0.0)]
    assert found == _scores(
        {"ann": [("gong", 1.0), ("kettle", 0.6)], "bob": [("kettle", 0.8)], "fay": kettle_first, "hal": kettle_first}
    )
