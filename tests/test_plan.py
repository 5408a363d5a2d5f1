"""The plan is data that holds together."""

from itertools import pairwise

import pytest

from recsys_spark.features.declared import declared_tables
from recsys_spark.plan import BUNDLE_TABLES, PINNED, PLAN, step


def test_step_is_found_by_name() -> None:
    assert step("blend").writes == ("candidates", "fallback_candidates", "blend_fits")
    with pytest.raises(KeyError):
        step("nothing")


def test_plan_reads_only_what_was_written_before() -> None:
    written: set[str] = set()
    for one in PLAN:
        assert set(one.reads) <= written, one.name
        written |= set(one.writes)


def test_plan_fits_before_it_retrieves() -> None:
    order = [one.name for one in PLAN]
    assert {("als", "two_tower"), ("two_tower", "embed"), ("embed", "ann"), ("ann", "retrieve")} <= set(pairwise(order))
    assert {*step("als").writes, *step("embed").writes, *step("ann").writes} <= set(step("retrieve").reads)


def test_plan_reads_of_other_bundles_what_every_published_one_has() -> None:
    read = {name for one in PLAN for name in one.base_reads}
    assert read == {"choices", "item_factors", "two_tower_models", "item_embeddings", "candidates"}
    # A work table lives as long as the rows of its run.
    assert read | {name for one in PLAN for name in one.current_reads} <= {*BUNDLE_TABLES, "interactions"}


def test_plan_writes_every_declared_table_but_the_run_ledgers() -> None:
    written = {table for one in PLAN for table in one.writes}
    assert written | {"run_steps", "rules"} == set(declared_tables())


def test_bundle_tables_are_the_declared_ones() -> None:
    assert set(BUNDLE_TABLES) == {table.name for table in declared_tables().values() if table.family == "bundle"}
    assert {declared_tables()[name].family for name in PINNED} == {"events", "catalogue"}
