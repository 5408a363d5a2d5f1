"""A service encodes a user as the run did, and finds what is nearest, by the published model alone."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.errors import ArgumentError, DamagedError
from recsys_spark.serving.bundle import Bundle, open_current
from recsys_spark.serving.user_encoder import UserEncoder, user_encoder
from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.kernels.model_file import SUFFIX, TowerModel, load_model
from recsys_spark.two_tower.kernels.towers import embed, pool_history
from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.blobs import put_blob
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.tables import TWO_TOWER_MODELS
from tests.made_warehouse import RUN_A, append_publish, make_rows, publish_bundle, stage_rows
from tests.tower_fits import SHAPE, make_model

ITEM_IDS = [f"i{n:02d}" for n in range(20)]
HIDDEN = {"i03"}
USERS = TowerInputs(
    (
        Field("segment", "category"),
        Field("n_events", "number", mean=1.0, deviation=0.5),
        Field("category_affinities", "shares"),
        Field("vectors.text", "vector", width=2),
        Field("recent_items", "values"),
    ),
    n_buckets=64,
)
FEATURES: dict[str, dict[str, Any]] = {
    "ann": {
        "segment": "gold",
        "n_events": 7,
        "category_affinities": [{"category": "tea", "share": 0.75}, {"category": "cups", "share": 0.25}],
        "recent_items": ["i04", "gone", "i02", "i01", "i05"],
    },
    "bob": {"segment": None, "n_events": 0, "category_affinities": [], "recent_items": []},
    "eve": {"segment": " ", "n_events": 1, "category_affinities": [], "recent_items": ["gone"]},
}


def _model_file() -> bytes:
    return make_model(users=USERS)


def _item_rows(model: TowerModel) -> list[dict[str, Any]]:
    vectors = np.random.default_rng(7).normal(size=(len(ITEM_IDS), SHAPE.dim)).astype(np.float32)
    vectors[11] = vectors[6]
    return [
        {"item_id": one, "item_idx": at, "vector": vectors[at].tolist(), "norm": 1.0, "shown": one not in HIDDEN}
        | {"model_version": model.version}
        for at, one in enumerate(ITEM_IDS)
    ]


def _stored_users(model: TowerModel, vectors: np.ndarray) -> np.ndarray:
    """Embeddings as a run computes them: of all users at once, from the table's columns."""
    schema = arrow_schema_of_features()
    table = pa.Table.from_pylist([{"vectors.text": None, **row} for row in FEATURES.values()], schema)
    places = {one: at for at, one in enumerate(ITEM_IDS)}
    known = [
        [places[one] for one in row["recent_items"][: SHAPE.history_items] if one in places]
        for row in FEATURES.values()
    ]
    flat = np.array([place for items in known for place in items], np.int64)
    pooled = pool_history(vectors, flat, np.array([len(items) for items in known]), SHAPE.half_life_items)
    return embed(model.user, USERS.encode(table), pooled, SHAPE.normalize)


def arrow_schema_of_features() -> pa.Schema:
    share = pa.struct([("category", pa.string()), ("share", pa.float32())])
    return pa.schema(
        {
            "segment": pa.string(),
            "n_events": pa.int32(),
            "category_affinities": pa.list_(share),
            "vectors.text": pa.list_(pa.float32()),
            "recent_items": pa.list_(pa.string()),
        }
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published bundle with a model, and features and embeddings that belong to it."""
    folder = tmp_path_factory.mktemp("published")
    publish_bundle(folder, "20250130-001-00000000", ["ann"])  # an older one without a model
    data = _model_file()
    blob = put_blob(folder, data, SUFFIX)
    rows = make_rows(RUN_A, [], {})
    rows["user_features"] = [{"user_id": one, **row} for one, row in sorted(FEATURES.items())]
    rows["item_embeddings"] = _item_rows(load_model(data))[::-1]
    rows["two_tower_models"] = [
        {"model_version": blob.sha256, "rel_path": blob.rel_path, "n_bytes": blob.n_bytes, "card": "{}"}
    ]
    stage_rows(folder, RUN_A, rows)
    append_publish(folder, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()})
    return folder


@pytest.fixture(scope="module")
def bundle(root: Path) -> Bundle:
    return open_current(root)


def _vectors(bundle: Bundle) -> np.ndarray:
    return np.array(bundle.read_table("item_embeddings").sort_by("item_idx")["vector"].to_pylist(), np.float32)


def test_encode_user_gives_what_the_run_gave_for_the_same_features(bundle: Bundle) -> None:
    stored = _stored_users(load_model(_model_file()), _vectors(bundle))
    for at, user_id in enumerate(FEATURES):
        features = bundle.user_features(user_id)
        assert features is not None
        found = bundle.encode_user(features, features["recent_items"])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, stored[at], atol=1e-5)
    assert np.abs(stored[0] - stored[1]).max() > 0.1


def test_encode_user_takes_what_is_missing_as_null_and_ignores_what_the_model_does_not_take(bundle: Bundle) -> None:
    everything = {"segment": None, "n_events": None, "category_affinities": None, "vectors.text": None}
    expected = bundle.encode_user(everything | {"recent_items": None}, [])
    np.testing.assert_array_equal(bundle.encode_user({}, []), expected)
    np.testing.assert_array_equal(bundle.encode_user({"shoe_size": object()}, ["never seen"]), expected)


def test_encode_user_takes_features_as_python_and_numpy_have_them(bundle: Bundle) -> None:
    vector = [0.6, -0.8]
    expected = bundle.encode_user({"n_events": 3, "vectors.text": vector, "recent_items": ["i01"]}, [])
    as_numpy = {"n_events": np.float32(3), "vectors.text": np.array(vector), "recent_items": ("i01",)}
    np.testing.assert_array_equal(bundle.encode_user(as_numpy, []), expected)
    assert not np.array_equal(bundle.encode_user({"n_events": 3, "recent_items": ["i01"]}, []), expected)
    assert not np.array_equal(bundle.encode_user({"n_events": 3, "vectors.text": vector}, []), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_events", "many"),
        ("n_events", [1.0]),
        ("segment", b"gold"),
        ("segment", ["gold"]),
        ("segment", 1.5),
        ("segment", object()),
        ("segment", "\ud800"),
        ("category_affinities", ["tea"]),
        ("category_affinities", {"tea": 0.5}),
        ("vectors.text", [1.0]),
        ("vectors.text", ["a", "b"]),
        ("recent_items", "i01"),
        ("n_events", 1 << 80),
        ("n_events", np.complex64(1)),
        ("n_events", {1: 2}),
    ],
)
def test_encode_user_refuses_a_feature_of_another_type(bundle: Bundle, name: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=f"encode_user: .*{name}: expected"):
        bundle.encode_user({name: value}, [])


def test_encode_user_refuses_ids_that_are_no_text(bundle: Bundle) -> None:
    with pytest.raises(ArgumentError, match="encode_user: expected ids as text, got int"):
        bundle.encode_user({}, ["i01", 2])  # type: ignore[list-item]


def test_encode_user_has_an_embedding_for_a_model_without_features(bundle: Bundle) -> None:
    data = make_model(users=TowerInputs((), 0))
    encoder = replace(bundle._user_encoder, model=load_model(data))
    found = encoder.encode({"segment": "gold"}, ["i01"])
    assert found.shape == (SHAPE.dim,)
    assert not np.array_equal(found, encoder.encode({}, ["i02"]))


def test_nearest_lists_what_may_be_shown_by_product(bundle: Bundle) -> None:
    user = bundle.encode_user(FEATURES["ann"], FEATURES["ann"]["recent_items"])
    scores = _vectors(bundle) @ user
    order = [ITEM_IDS[at] for at in np.lexsort((np.arange(20), -scores)) if ITEM_IDS[at] not in HIDDEN]
    found = bundle.nearest(user)
    assert [one.item_id for one in found] == order
    assert [one.rank for one in found] == list(range(1, 20))
    np.testing.assert_allclose(
        [one.score for one in found], sorted(scores[np.arange(20) != 3], reverse=True), atol=1e-6
    )
    assert bundle.nearest(user, k=3) == found[:3]
    left = bundle.nearest(user, k=2, exclude=[order[0], "never seen"])
    assert [(one.item_id, one.rank) for one in left] == [(order[1], 1), (order[2], 2)]


def test_nearest_breaks_ties_by_the_smaller_index(bundle: Bundle) -> None:
    vector = _vectors(bundle)[6]  # that of i11 too
    ids = [one.item_id for one in bundle.nearest(vector, k=20)]
    assert ids.index("i11") == ids.index("i06") + 1
    alone = bundle.nearest(np.zeros(SHAPE.dim, np.float32), k=3)
    assert [one.item_id for one in alone] == ["i00", "i01", "i02"]


@pytest.mark.parametrize(
    "vector", [np.zeros(3), np.zeros((1, 4)), np.array([1, 2, 3, np.nan]), np.array(["a", "b", "c", "d"])]
)
def test_nearest_refuses_a_vector_that_is_none_of_this_model(bundle: Bundle, vector: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="nearest: expected a vector of 4 finite numbers, got "):
        bundle.nearest(vector)


def test_nearest_refuses_a_wrong_k_and_wrong_ids(bundle: Bundle) -> None:
    with pytest.raises(ArgumentError, match="k of at least 1, got 0"):
        bundle.nearest(np.zeros(SHAPE.dim), k=0)
    with pytest.raises(ArgumentError, match="nearest: expected ids as text, got int"):
        bundle.nearest(np.zeros(SHAPE.dim), exclude=[1])  # type: ignore[list-item]


def test_user_encoder_names_a_bundle_without_a_model(root: Path, bundle: Bundle) -> None:
    nothing = pa.Table.from_pylist([], arrow_schema(TWO_TOWER_MODELS))
    with pytest.raises(ArgumentError, match=r"expected a run that has trained a two-tower model, got none; put two_"):
        user_encoder(nothing, bundle.read_table("item_embeddings"), root, RUN_A)


def test_user_encoder_refuses_a_model_that_was_altered(tmp_path: Path, bundle: Bundle) -> None:
    create_tables(tmp_path, [])
    blob = put_blob(tmp_path, _model_file(), SUFFIX)
    content = bytearray((tmp_path / blob.rel_path).read_bytes())
    content[-1] ^= 1
    (tmp_path / blob.rel_path).write_bytes(bytes(content))
    models, items = bundle.read_table("two_tower_models"), bundle.read_table("item_embeddings")
    with pytest.raises(DamagedError, match=f"expected sha256 {blob.sha256}, got"):
        user_encoder(models, items, tmp_path, RUN_A)


def test_bundle_loads_the_model_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_current(root)
    made: list[UserEncoder] = []

    def counted(*arguments: Any) -> UserEncoder:
        made.append(user_encoder(*arguments))
        return made[-1]

    monkeypatch.setattr("recsys_spark.serving.bundle.user_encoder", counted)
    for _ in range(3):
        opened.nearest(opened.encode_user({}, []))
    assert len(made) == 1


def test_encode_user_needs_neither_torch_nor_spark_nor_a_compiler(root: Path) -> None:
    code = """
import sys
from recsys_spark.serving.bundle import open_current
bundle = open_current(sys.argv[1])
assert bundle.nearest(bundle.encode_user({"segment": "gold"}, ["i01"]), k=5)
print([name for name in ("pyspark", "py4j", "torch", "faiss", "numba", "scipy") if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
