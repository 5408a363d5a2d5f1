"""A copy of the candidates is told what to fetch again only if it holds what the bundle was compared with."""

from pathlib import Path

import pytest

from recsys_spark.errors import ArgumentError
from recsys_spark.serving.bundle import changed_users, open_current
from tests.made_warehouse import RUN_A, RUN_B, append_publish, publish_bundle


def test_changed_users_are_those_against_the_bundle_before(root: Path) -> None:
    publish_bundle(root, RUN_A, ["u1"])
    publish_bundle(root, RUN_B, ["u2", "u3"])
    rows = changed_users(open_current(root), RUN_A).to_pylist()
    assert rows == [{"user_id": user, "variant": "main", "change": "added"} for user in ("u2", "u3")]


@pytest.mark.parametrize("held", [RUN_B, "", "20250101-001-ffffffff"])
def test_changed_users_refuses_a_copy_of_another_bundle(root: Path, held: str) -> None:
    publish_bundle(root, RUN_A, ["u1"])
    publish_bundle(root, RUN_B, ["u2"])
    with pytest.raises(ArgumentError, match=f"was compared with, {RUN_A}, got '{held}'; copy all of candidates"):
        changed_users(open_current(root), held)


def test_changed_users_refuses_the_first_bundle_and_one_that_was_rolled_back_to(root: Path) -> None:
    publish_bundle(root, RUN_A, ["u1"])
    with pytest.raises(ArgumentError, match="was compared with, none, got"):
        changed_users(open_current(root), RUN_A)
    n_rows = {table.name: table.n_rows for table in open_current(root)._head.tables}
    publish_bundle(root, RUN_B, ["u2"])
    append_publish(root, RUN_A, n_rows, kind="rollback")
    with pytest.raises(ArgumentError, match=f"bundle {RUN_A} was compared with, none, got"):
        changed_users(open_current(root), RUN_B)
