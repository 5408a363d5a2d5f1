"""A day of a small shop: run, rerun, resume, refuse; and a tiny world whose date is run again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.errors import ArgumentError, ContractError, DamagedError
from recsys_spark.features.declared import declared_tables
from recsys_spark.ingest.clock import next_day
from recsys_spark.ingest.step_ingest import ingest
from recsys_spark.pipeline.publish import current_row, history
from recsys_spark.pipeline.runner import RunReport, join_run, run_day
from recsys_spark.plan import BUNDLE_TABLES, PLAN
from recsys_spark.serving.bundle import Bundle, open_current
from recsys_spark.warehouse.ledger import steps_of
from recsys_spark.warehouse.run_files import last_version, runs_with_rows
from tests.death import dies_at
from tests.ledgers import find_or_open_run, latest_runs
from tests.shop_day import DAY, ShopDay, copy_shop, lose_a_file
from tests.small_shop import FIRST_DAY, events_of, land_events, make_shop
from tests.whole_day import run_whole_day

# No source asks the towers, and no bundle is judged.
WITHOUT = {"two_tower_models", "user_embeddings", "item_embeddings", "ann_shards", "quality", "ranking_examples"}


@pytest.fixture(scope="module")
def shop(shop_day: ShopDay) -> Config:
    """A shop whose history was taken in, run and published."""
    return shop_day.config


def _versions(config: Config) -> dict[str, int]:
    return {name: last_version(config.root, name) for name in declared_tables()}


def test_run_day_without_a_date_takes_the_day_after_the_last_event(shop: Config) -> None:
    assert next_day(shop) == DAY
    assert current_row(shop.root).data_date == DAY


def test_run_day_records_every_step_with_rows_and_figures(shop: Config) -> None:
    steps = steps_of(shop.root, current_row(shop.root).run_id)
    assert set(steps) == {step.name for step in PLAN if step.in_run}
    for step in PLAN:
        if step.in_run and step.name not in ("audit", "publish"):
            assert set(steps[step.name]["n_rows"]) == set(step.writes)
            assert set(steps[step.name]["content_hashes"]) == set(step.writes)


def test_run_day_leaves_no_scratch_of_a_step_that_is_recorded(shop: Config) -> None:
    assert steps_of(shop.root, current_row(shop.root).run_id)["als"]["figures"]["n_iterations"] >= 2.0
    assert [path for path in shop.root.glob("_scratch/**/*") if path.is_file()] == []


def test_rerun_of_the_same_date_adds_no_row_and_says_so(spark: SparkSession, shop: Config, tmp_path: Path) -> None:
    """Fault row 10."""
    again = copy_shop(shop.root, tmp_path)
    before = _versions(again)
    assert run_day(spark, again, DAY).outcome == "unchanged"
    assert _versions(again) == before


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


def test_join_run_refuses_a_step_before_its_inputs(spark: SparkSession, shop: Config, tmp_path: Path) -> None:
    changed = copy_shop(shop.root, tmp_path, "candidates.k=7")
    with pytest.raises(ArgumentError, match=r"step blend: expected .*index.* to be done"):
        join_run(spark, changed, DAY, "blend")
    with pytest.raises(ArgumentError, match="step: expected one of index"):
        join_run(spark, changed, DAY, "ingest")


def test_stage_outputs_refuses_a_step_that_forgets_a_table(
    spark: SparkSession, shop: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys_spark.signals import step_index

    changed = copy_shop(shop.root, tmp_path, "candidates.k=6")
    monkeypatch.setattr(step_index, "run", lambda inputs, context: {})
    with pytest.raises(ContractError, match=r"step index: expected .*'item_index', 'user_index'\], got \[\]"):
        run_day(spark, changed, DAY)


def test_run_day_resumes_where_the_ledger_ends_and_a_step_where_its_scratch_does(shop_day: ShopDay) -> None:
    """Fault row 1: the fit is not repeated, though its step was not recorded."""
    root, report = shop_day.config.root, shop_day.report
    assert shop_day.with_scratch.count(shop_day.killed_run) == 1
    assert shop_day.halves
    assert (report.run_id, report.outcome) == (shop_day.killed_run, "published")
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
    assert [run["run_id"] for run in latest_runs(root)] == [report.run_id]
    figures = steps_of(root, report.run_id)["als"]["figures"]
    assert figures["n_resumed"] == 2 * figures["n_iterations"] + 1  # and users at the end
    assert list(root.glob(f"_scratch/{report.run_id}/als/*")) == []


def test_every_bundle_table_has_the_rows_of_the_published_runs(shop: Config) -> None:
    published = {row.run_id for row in history(shop.root)}
    assert len(published) == 1
    for name in BUNDLE_TABLES:
        assert published <= runs_with_rows(shop.root, name) or name in WITHOUT


@dataclass(frozen=True)
class Tiny:
    """A world of one item and one user that was published; then two users more came, and its date was run again.

    abandoned: a run of other settings that was open meanwhile.  damaged: the first run of the corrected input, which
    lost the index of items; fault: what was said of it, state: what became of it, kept: the bundle that was current.
    """

    config: Config
    one: Bundle
    abandoned: str
    damaged: str
    fault: str
    state: str
    kept: str
    report: RunReport


@pytest.fixture(scope="module")
def tiny(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    config = make_shop(tmp_path_factory.mktemp("tiny"))
    base, day = events_of(FIRST_DAY, 1)[0], FIRST_DAY + timedelta(days=1)

    def land(name: str, users: str) -> None:
        events = [base | {"user_id": user, "item_id": "i", "event_id": user + "i"} for user in users]
        land_events(config, FIRST_DAY, events, name)

    land("first.jsonl.gz", "u")
    assert run_whole_day(spark, config).outcome == "published"
    one = open_current(config.root)
    abandoned, _ = find_or_open_run(make_shop(config.root.parent, "candidates.k=7"), day)

    land("corrected.jsonl.gz", "vw")
    ingest(spark, config)
    with dies_at("run.after_index"):
        run_day(spark, config, day)
    lose_a_file(config, "item_index")
    with pytest.raises(DamagedError) as caught:
        run_day(spark, config, day)
    newest, kept = latest_runs(config.root)[-1], current_row(config.root).run_id
    report = run_day(spark, config, day)
    return Tiny(config, one, abandoned.run_id, newest["run_id"], str(caught.value), newest["state"], kept, report)


def _check_seen(bundle: Bundle, users: str) -> None:
    """Everybody has seen everything: a list of their own that is empty, and the fallback for strangers."""
    for user in users:
        assert bundle.candidates(user).origin == "user"
        assert bundle.candidates(user).items == ()
    assert {one.item_id for one in bundle.candidates("stranger").items} == {"i"}


def test_tiny_world_of_one_user_and_one_item_is_published(tiny: Tiny) -> None:
    """Fault row 36."""
    _check_seen(tiny.one, "u")
    assert tiny.one.read_table("user_index", columns=["user_id"])["user_id"].to_pylist() == ["u"]


def test_tiny_world_of_three_users_and_one_item_is_published(tiny: Tiny) -> None:
    """Fault row 36."""
    _check_seen(open_current(tiny.config.root), "uvw")


def _hashes(config: Config, run_id: str) -> Mapping[str, str]:
    row = next(row for row in history(config.root) if row.run_id == run_id)
    return {table.name: table.content_hash for table in row.tables}


def test_run_day_with_corrected_input_is_a_new_run_whose_content_wins(tiny: Tiny) -> None:
    """Fault row 11: the changed rows are visible, and the abandoned open run is not taken up again."""
    assert tiny.report.outcome == "published"
    after = open_current(tiny.config.root)
    assert after.run_id == tiny.report.run_id
    assert after.run_id not in (tiny.one.run_id, tiny.abandoned)
    states = {run["run_id"]: run["state"] for run in latest_runs(tiny.config.root)}
    assert (states[tiny.abandoned], states[after.run_id]) == ("abandoned", "published")
    assert _hashes(tiny.config, tiny.one.run_id)["user_features"] != _hashes(tiny.config, after.run_id)["user_features"]


def test_a_run_whose_rows_a_later_step_misses_is_refused_and_the_next_one_is_whole(tiny: Tiny) -> None:
    assert f"item_index run_id={tiny.damaged}" in tiny.fault
    assert tiny.state == "refused"
    assert tiny.kept == tiny.one.run_id
    assert tiny.report.run_id != tiny.damaged
    assert set(tiny.report.seconds) == {step.name for step in PLAN if step.in_run}
    assert tiny.report.outcome == "published"


def test_every_bundle_table_keeps_the_rows_of_both_runs_of_a_date(tiny: Tiny) -> None:
    published = {row.run_id for row in history(tiny.config.root)}
    assert published == {tiny.one.run_id, tiny.report.run_id}
    # One item has no neighbours.
    for name in set(BUNDLE_TABLES) - WITHOUT - {"item_neighbors"}:
        assert published <= runs_with_rows(tiny.config.root, name), name
