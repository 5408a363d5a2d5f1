"""Each rung of the ladder on a published bundle: who stands on which, and that it is counted."""

from pathlib import Path

import pytest

from recsys_spark.errors import ArgumentError
from recsys_spark.serving.bundle import Bundle, open_current
from recsys_spark.serving.cold_start import Ladder, Recommended
from recsys_spark.two_tower.kernels.model_file import SUFFIX, load_model
from recsys_spark.warehouse.blobs import put_blob
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.tables import RUN_STEPS
from tests.made_warehouse import FIT, GENERATED_AT, RUN_A, RUN_B, append_publish, make_rows, publish_bundle, stage_rows
from tests.serving.test_user_encoder import _item_rows, _model_file

SEGMENTS = {"bob": "FR", "full": None}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with factors and a segment, and after it one with a model too; `full` has seen everything."""
    folder = tmp_path_factory.mktemp("published")
    publish_bundle(folder, RUN_A, ["ann"], SEGMENTS)
    return folder


@pytest.fixture(scope="module")
def bundle(root: Path) -> Bundle:
    data = _model_file()
    blob = put_blob(root, data, SUFFIX)
    rows = make_rows(RUN_B, ["ann"], SEGMENTS)
    rows["candidates"].append({"user_id": "full", "variant": "main", "items": [], "generated_at": GENERATED_AT})
    rows["item_embeddings"] = _item_rows(load_model(data))
    rows["two_tower_models"] = [
        {"model_version": blob.sha256, "rel_path": blob.rel_path, "n_bytes": blob.n_bytes, "card": "{}"}
    ]
    stage_rows(root, RUN_B, rows)
    done = {"run_id": RUN_B, "step": "als", "started_at": GENERATED_AT, "seconds": 1.0, "recorded_at": GENERATED_AT}
    append_rows(root, RUN_STEPS, [done | {"n_rows": {}, "content_hashes": {}, "figures": FIT}])
    append_publish(root, RUN_B, {name: len(table_rows) for name, table_rows in rows.items()})
    return open_current(root)


def ids(found: Recommended) -> list[str]:
    return [one.item_id for one in found.items]


def test_a_user_with_a_list_gets_it_less_what_the_session_had(bundle: Bundle) -> None:
    found = Ladder(bundle).recommend("ann", events=[("i2", 1.0)], features={"segment": "gold"}, k=2)
    assert (found.rung, ids(found)) == ("list", ["i1", "i3"])
    assert [one.rank for one in found.items] == [1, 2]


def test_a_session_of_an_unknown_user_is_folded_in(bundle: Bundle) -> None:
    found = Ladder(bundle).recommend("new", events=[("i1", 1.0)], features={"segment": "gold"}, k=2)
    assert (found.rung, ids(found)) == ("events", ["i2", "i4"])


def test_what_is_known_of_a_user_without_events_is_embedded(bundle: Bundle) -> None:
    found = Ladder(bundle).recommend("new", features={"segment": "gold"}, k=3)
    vector = bundle.encode_user({"segment": "gold"}, [])
    assert (found.rung, found.items) == ("features", bundle.nearest(vector, 3))


def test_events_that_no_item_has_factors_for_are_left_to_the_next_rung(bundle: Bundle) -> None:
    found = Ladder(bundle).recommend("new", events=[("i04", 1.0)], features={}, k=30)  # an item with an embedding alone
    assert found.rung == "features"
    assert "i04" not in ids(found)


def test_the_newest_event_of_a_session_is_the_newest_item_that_the_tower_sees(bundle: Bundle) -> None:
    found = Ladder(bundle).recommend("new", events=[("i04", 1.0), ("i05", 1.0)], features={}, k=3)
    expected = bundle.nearest(bundle.encode_user({}, ["i05", "i04"]), 3, {"i04", "i05"})
    assert (found.rung, found.items) == ("features", expected)


def test_the_rest_gets_what_is_popular_in_the_segment_then_with_everybody(bundle: Bundle) -> None:
    ladder = Ladder(bundle)
    assert ladder.recommend("bob").rung == "segment"
    assert ladder.recommend("new", segment="FR").rung == "segment"
    found = ladder.recommend("new", segment="IS", events=[("unknown", 1.0)])
    assert (found.rung, ids(found)) == ("everybody", ["i1", "i2", "i3"])
    assert dict(ladder.counts) == {"segment": 2, "everybody": 1}


def test_who_has_seen_everything_is_not_shown_it_again(bundle: Bundle) -> None:
    found = Ladder(bundle).recommend("full")
    assert (found.rung, found.items) == ("list", ())


def test_a_bundle_without_towers_has_no_such_rung(tmp_path: Path) -> None:
    publish_bundle(tmp_path, RUN_A, ["ann"], SEGMENTS)
    rows = make_rows(RUN_B, ["ann"], SEGMENTS) | {"two_tower_models": []}
    stage_rows(tmp_path, RUN_B, rows)
    append_publish(tmp_path, RUN_B, {name: len(table_rows) for name, table_rows in rows.items()})
    assert Ladder(open_current(tmp_path)).recommend("new", features={"segment": "gold"}).rung == "everybody"


def test_what_is_no_request_is_refused(bundle: Bundle) -> None:
    ladder = Ladder(bundle)
    for user_id, given in (
        (7, {}),
        ("ann", {"k": 0}),
        ("ann", {"events": [("i1", float("nan"))]}),
        ("new", {"events": [("i1", float("nan"))]}),
        ("new", {"features": {"n_events": "x"}}),
    ):
        with pytest.raises(ArgumentError):
            ladder.recommend(user_id, **given)
    assert not ladder.counts
