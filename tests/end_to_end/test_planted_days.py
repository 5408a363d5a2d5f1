"""Days on which something went wrong before the audit: each is refused by name, and the last good bundle stays."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.blend import step_blend
from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.errors import GateRefused
from recsys_spark.ingest.step_ingest import ingest
from recsys_spark.pipeline.gates.verdict import forced_gates
from recsys_spark.pipeline.runner import run_day
from recsys_spark.serving.bundle import changed_users, open_current
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.tables import AUDITS
from tests.small_shop import FIRST_DAY, land_days, make_shop
from tests.staged import staged
from tests.whole_day import run_whole_day

pytestmark = pytest.mark.slow

DAY = FIRST_DAY + timedelta(days=7)
K = 5  # of the 14 items that sell


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a shop whose first week is published."""
    folder = tmp_path_factory.mktemp("planted")
    config = make_shop(folder, f"candidates.k={K}")
    land_days(config, FIRST_DAY, 7)
    assert run_whole_day(spark, config, DAY).outcome == "published"
    return folder


@pytest.fixture
def shop(published: Path, tmp_path: Path) -> Callable[..., Config]:
    def copy(*sets: str) -> Config:
        shutil.copytree(published, tmp_path, dirs_exist_ok=True)
        return make_shop(tmp_path, f"candidates.k={K}", *sets)

    return copy


def one_item_in_every_list(candidates: DataFrame, planted: str) -> DataFrame:
    """Puts `planted` into second place."""
    others = F.filter("items", lambda item: item["item_id"] != planted)
    first = F.get(others, 0)
    listed = F.concat(F.array(first), F.array(first.withField("item_id", F.lit(planted))), F.slice(others, 2, K - 2))
    ranked = F.transform(listed, lambda item, at: item.withField("rank", at + 1))
    return candidates.where(F.size(others) > 0).withColumn("items", ranked).select(candidates.columns)


def test_a_planted_day_is_refused_and_the_last_good_bundle_stays(
    spark: SparkSession, shop: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One item in every list; half of the users missing, and embeddings of another model, are in the tests of gates."""
    config = shop("audit.max_item_jump=0.3")
    land_days(config, DAY, 1)
    ingest(spark, config)
    before, sound, planted = open_current(config.root), step_blend.run, []

    def spoiled(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
        outputs = staged(sound(inputs, context), context)
        listed, shared = (
            [item["item_id"] for row in outputs[table].select("items").collect() for item in row["items"]]
            for table in ("candidates", "fallback_candidates")
        )
        planted.append(min(set(listed) - set(shared), key=lambda item: (listed.count(item), item)))
        return outputs | {"candidates": one_item_in_every_list(outputs["candidates"], planted[0])}

    monkeypatch.setattr(step_blend, "run", spoiled)
    with pytest.raises(GateRefused, match=r"gate item_jump: expected <= 0\.3, got [01]\.\d+") as caught:
        run_day(spark, config, DAY + timedelta(days=1))
    assert f"(item '{planted[0]}': " in str(caught.value)
    assert caught.value.exit_code == 3
    after = open_current(config.root)
    assert after.run_id == before.run_id
    assert after.candidates("user-01").items == before.candidates("user-01").items


def test_a_day_without_its_events_is_refused_until_it_is_forced(
    spark: SparkSession, shop: Callable[..., Config]
) -> None:
    config, day = shop("audit.weekday_weeks=1"), DAY + timedelta(days=1)
    before = open_current(config.root)
    with pytest.raises(GateRefused, match=rf"gate missing_day: expected events on a weekday .* \({DAY}\)") as caught:
        run_day(spark, config, day)
    assert caught.value.exit_code == 3
    forced = forced_gates(["missing_day"], "the shop was closed")
    assert run_day(spark, config, day, forced=forced).outcome == "published"
    (row,) = [
        row for row in read_rows(config.root, AUDITS) if row["gate"] == "missing_day" and row["outcome"] == "failed"
    ]
    assert row["detail"].endswith("forced: the shop was closed")
    bundle = open_current(config.root)
    lists = {user: [one.item_id for one in before.candidates(user).items] for user in _users(before)}
    now = {user: [one.item_id for one in bundle.candidates(user).items] for user in _users(bundle)}
    expected = {user for user in {*lists, *now} if lists.get(user) != now.get(user)}
    assert set(changed_users(bundle, before.run_id)["user_id"].to_pylist()) == expected


def _users(bundle) -> list[str]:
    return bundle.read_table("candidates", ["user_id"])["user_id"].to_pylist()
