"""Every enabled source is asked, sees its own tables alone, and answers under its own name."""

from types import SimpleNamespace

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.errors import ContractError
from recsys_spark.retrieval import declared, step_retrieve
from recsys_spark.retrieval.declared import SourceParams
from recsys_spark.warehouse.spark_check import check_schema, spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.engagement import make_context

SCHEMA = spark_schema(TABLES["source_candidates"], without=("run_id",))


class Params(SourceParams):
    """One setting."""

    item_idx: int


def make_source(name: str, list_name: str, reads: tuple[str, ...] = ("item_index",), **renamed: str) -> SimpleNamespace:
    """A source that proposes one item to everybody, and keeps what it was given."""
    source = SimpleNamespace(Params=Params, READS=reads, given=[])

    def generate(inputs: dict[str, DataFrame], params: Params, context: object) -> DataFrame:
        source.given.append((set(inputs), params.item_idx))
        spark = inputs["item_index"].sparkSession
        rows = [(list_name, None, None, [(params.item_idx, 1, 1.0)], None, None, None)]
        return spark.createDataFrame(rows, SCHEMA).withColumnsRenamed(renamed)

    source.generate = generate
    return source


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """Puts sources in the place of those in the folder."""

    def put(**modules: SimpleNamespace) -> None:
        monkeypatch.setattr(declared, "discover", lambda: tuple(sorted(modules)))
        monkeypatch.setattr(declared, "load", modules.__getitem__)
        monkeypatch.setattr(step_retrieve, "load", modules.__getitem__)

    return put


def run(spark: SparkSession, make_config, **settings: int):
    sets = [f"sources.{name}.item_idx={value}" for name, value in settings.items()]
    config = make_config(f"sources.enabled={list(settings)}", *sets)
    # base.toml's own sections are of sources that these tests have put others in the place of.
    kept = {name: config.sources.params(name) for name in settings}
    config = config.model_copy(update={"sources": type(config.sources)(enabled=list(settings), **kept)})
    inputs = {name: spark.range(1).withColumnRenamed("id", name) for name in ("events", "item_index")}
    context = make_context(spark, config)
    return step_retrieve.run(inputs, context)["source_candidates"], context


def test_retrieve_unites_the_enabled_sources(spark: SparkSession, make_config, install) -> None:
    near, top = make_source("near", "near"), make_source("top", "top/global", reads=("item_index", "events"))
    install(near=near, top=top, idle=make_source("idle", "idle"))
    frame, context = run(spark, make_config, top=7, near=3)
    check_schema(frame, TABLES["source_candidates"], without=("run_id",))
    rows = sorted((row["source"], row["items"][0]["item_idx"]) for row in frame.collect())
    assert rows == [("near", 3), ("top/global", 7)]
    assert near.given == [({"item_index"}, 3)]
    assert top.given == [({"item_index", "events"}, 7)]
    assert context.figures == {"n_sources": 2.0}


@pytest.mark.parametrize("list_name", ["als", "topmost", "top2/global", ""])
def test_retrieve_refuses_a_list_under_another_name(spark: SparkSession, make_config, install, list_name: str) -> None:
    install(top=make_source("top", list_name))
    frame, _ = run(spark, make_config, top=7)
    with pytest.raises(Exception, match=f"sources/top.py: expected lists called top or top/..., got {list_name};"):
        frame.agg(F.max("source")).collect()


def test_retrieve_refuses_a_source_that_reads_more_than_the_plan_gives(
    spark: SparkSession, make_config, install
) -> None:
    install(top=make_source("top", "top", reads=("item_index", "exposures")))
    with pytest.raises(ContractError, match=r"sources/top.py READS: expected tables .*, got exposures; add them"):
        run(spark, make_config, top=7)


def test_retrieve_refuses_other_columns_than_the_tables(spark: SparkSession, make_config, install) -> None:
    install(top=make_source("top", "top", items="ranked"))
    with pytest.raises(ContractError, match=r"source_candidates: .*missing items"):
        run(spark, make_config, top=7)
