"""A day of a small shop: run, rerun, resume, refuse."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.errors import ArgumentError, ContractError
from recsys_spark.failpoint import FailpointReached
from recsys_spark.features import declared_tables
from recsys_spark.plan import BUNDLE_TABLES, PLAN
from recsys_spark.publish import head, history
from recsys_spark.reader import open_current
from recsys_spark.run_ledger import latest_runs
from recsys_spark.runner import join_run, next_day, run_day
from recsys_spark.steps.ingest import ingest
from recsys_spark.tables.delta_log import last_version, runs_with_rows
from recsys_spark.tables.ledger import steps_of
from recsys_spark.tables.scratch import runs_with_scratch
from tests.small_shop import FIRST_DAY, events_of, land_catalogue, land_days, land_events, make_shop
from tests.whole_day import run_whole_day

N_DAYS = 20
DAY = FIRST_DAY + timedelta(days=N_DAYS)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A shop whose history was taken in, run and published once for the tests of this module."""
    config = make_shop(tmp_path_factory.mktemp("shop"))
    land_catalogue(config, FIRST_DAY)
    land_days(config, FIRST_DAY, N_DAYS)
    assert run_whole_day(spark, config).outcome == "published"
    return config


def _versions(config: Config) -> dict[str, int]:
    return {name: last_version(config.root, name) for name in declared_tables()}


def test_run_day_without_a_date_takes_the_day_after_the_last_event(shop: Config) -> None:
    assert next_day(shop.root) == DAY
    assert head(shop.root).data_date == DAY


def test_run_day_records_every_step_with_rows_and_figures(shop: Config) -> None:
    steps = steps_of(shop.root, head(shop.root).run_id)
    assert set(steps) == {step.name for step in PLAN if step.in_run}
    for step in PLAN:
        if step.in_run and step.name not in ("audit", "publish"):
            assert set(steps[step.name]["n_rows"]) == set(step.writes)
            assert set(steps[step.name]["content_hashes"]) == set(step.writes)


def test_run_day_leaves_no_scratch_of_a_step_that_is_recorded(shop: Config) -> None:
    assert steps_of(shop.root, head(shop.root).run_id)["als"]["figures"]["n_iterations"] >= 2.0
    assert [path for path in shop.root.glob("_scratch/**/*") if path.is_file()] == []


def test_rerun_of_the_same_date_adds_no_row_and_says_so(spark: SparkSession, shop: Config) -> None:
    """Fault row 10."""
    before = _versions(shop)
    assert run_day(spark, shop, DAY).outcome == "unchanged"
    assert _versions(shop) == before


def test_published_lists_hold_what_the_policies_say(shop: Config) -> None:
    bundle = open_current(shop.root)
    for user in ("user-00", "user-07"):
        found = bundle.candidates(user)
        assert found.origin == "user"
        assert not {one.item_id for one in found.items} & set(bundle.user_features(user)["recent_items"])
        assert [one.rank for one in found.items] == list(range(1, len(found.items) + 1))
        assert all(one.sources for one in found.items)
    assert bundle.candidates("stranger", segment="A").origin == "segment"
    assert bundle.candidates("stranger").origin == "global"


def test_join_run_refuses_a_step_before_its_inputs(spark: SparkSession, shop: Config) -> None:
    changed = make_shop(shop.root.parent, "candidates.k=7")
    with pytest.raises(ArgumentError, match=r"step blend: expected .*index.* to be done"):
        join_run(spark, changed, DAY, "blend")
    with pytest.raises(ArgumentError, match="step: expected one of index"):
        join_run(spark, changed, DAY, "ingest")


def test_stage_outputs_refuses_a_step_that_forgets_a_table(
    spark: SparkSession, shop: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys_spark.steps import index

    changed = make_shop(shop.root.parent, "candidates.k=6")
    monkeypatch.setattr(index, "run", lambda inputs, context: {})
    with pytest.raises(ContractError, match=r"step index: expected .*'item_index', 'user_index'\], got \[\]"):
        run_day(spark, changed, DAY)


def test_run_day_resumes_where_the_ledger_ends_and_a_step_where_its_scratch_does(
    spark: SparkSession, shop: Config, failpoint: Callable[[str], None]
) -> None:
    """Fault row 1: the fit is not repeated, though its step was not recorded."""
    changed = make_shop(shop.root.parent, "candidates.k=5")
    failpoint("stage.after_user_factors")
    with pytest.raises(FailpointReached):
        run_day(spark, changed, DAY)
    failpoint("none")
    run_id = latest_runs(shop.root)[-1]["run_id"]
    assert runs_with_scratch(shop.root).count(run_id) == 1
    assert list(shop.root.glob(f"_scratch/{run_id}/als/half-*.json"))
    report = run_day(spark, changed, DAY)
    assert (report.run_id, report.outcome) == (run_id, "published")
    assert list(report.seconds) == [
        "als",
        "two_tower",
        "embed",
        "ann",
        "retrieve",
        "blend",
        "hindsight",
        "changes",
        "audit",
        "publish",
    ]
    assert len({run["run_id"] for run in latest_runs(shop.root) if run["run_id"] == report.run_id}) == 1
    figures = steps_of(shop.root, run_id)["als"]["figures"]
    assert figures["n_resumed"] == 2 * figures["n_iterations"] + 1  # and users at the end
    assert list(shop.root.glob(f"_scratch/{run_id}/als/*")) == []


def test_run_day_with_corrected_input_is_a_new_run_whose_content_wins(spark: SparkSession, shop: Config) -> None:
    """Fault row 11: the changed rows are visible, and the abandoned open run is not taken up again."""
    before = open_current(shop.root)
    land_events(
        shop,
        DAY,
        [e | {"event_id": f"fix-{e['event_id']}"} for e in events_of(DAY - timedelta(days=1), 5)],
        "fix.jsonl.gz",
    )
    ingest(spark, shop)
    assert run_day(spark, shop, DAY).outcome == "published"
    after = open_current(shop.root)
    assert after.run_id != before.run_id
    rows = {
        name: {table.name: table.content_hash for table in history(shop.root)[at].tables}
        for at, name in ((-2, "old"), (-1, "new"))
    }
    assert rows["old"]["user_features"] != rows["new"]["user_features"]


def test_every_bundle_table_has_the_rows_of_the_published_runs(shop: Config) -> None:
    published = {row.run_id for row in history(shop.root)}
    # No source of this shop asks the towers, and none of its bundles is judged.
    without = {"two_tower_models", "user_embeddings", "item_embeddings", "ann_shards", "quality", "ranking_examples"}
    for name in BUNDLE_TABLES:
        assert published <= runs_with_rows(shop.root, name) or name in without
