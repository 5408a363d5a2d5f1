"""Embeddings over the cluster are those of the kernel, whatever the partitions, and no row spoils another."""

import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.errors import DamagedError, KernelError
from recsys_spark.numeric.hashing import hashed
from recsys_spark.two_tower import embedding as adapter
from recsys_spark.two_tower.embedding import (
    ItemVectors,
    WorkerModel,
    broadcast_model,
    embed_items,
    embed_users,
    fit_item_vectors,
)
from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.kernels.model_file import TowerModel, load_model
from recsys_spark.two_tower.kernels.towers import embed
from tests.tower_fits import SHAPE, make_model, make_weights

ROUNDING = 1e-6  # of numbers up to 1 in float32: the last bits depend on the rows that are multiplied together
N = 50


def _items() -> pa.Table:
    titles = [None if n % 9 == 4 else f"thing number {n % 11}" for n in range(N)]
    return pa.table(
        {
            "item_idx": pa.array(range(N), pa.int32()),
            "item_id": [f"i{n:02d}" for n in range(N)],
            "title": pa.array(titles, pa.string()),
            "price": pa.array([None if n % 7 == 3 else n / 4 for n in range(N)], pa.float64()),
        }
    )


def _users(recent: list[list[str]]) -> pa.Table:
    n = len(recent)
    return pa.table(
        {
            "user_idx": pa.array(range(n), pa.int32()),
            "user_id": [f"u{at}" for at in range(n)],
            "segment": pa.array([None if at % 3 == 2 else f"s{at % 4}" for at in range(n)], pa.string()),
            "n_events": pa.array(range(n), pa.int32()),
            "recent_items": pa.array(recent, pa.list_(pa.string())),
        }
    )


def _version(data: bytes) -> str:
    return sha256(data).hexdigest()


def _by_id(frame: DataFrame, kind: str) -> dict[str, tuple[int, list[float], float]]:
    rows = frame.collect()
    return {row[f"{kind}_id"]: (row[f"{kind}_idx"], row["vector"], row["norm"]) for row in rows}


def _kernel_items(model: TowerModel, table: pa.Table) -> np.ndarray:
    return embed(model.item, model.item_inputs.encode(table), None, model.shape.normalize)


def _in_process(batches: Any, data: bytes, table: pa.Table, *items: ItemVectors) -> pa.Table:
    """What a worker makes of the table, batch by batch of at most 20 rows."""
    sent = [SimpleNamespace(value=one) for one in (WorkerModel(data, _version(data)), *items)]
    return pa.Table.from_batches(batches(*sent)(iter(table.to_batches(max_chunksize=20))))


def _matrix(table: pa.Table) -> np.ndarray:
    return np.array(table["vector"].to_pylist())


@pytest.mark.parametrize("n_partitions", [1, 3])
def test_embed_items_gives_what_the_kernel_gives(spark: SparkSession, n_partitions: int) -> None:
    data = make_model()
    sent = broadcast_model(spark, data, _version(data))
    found = _by_id(embed_items(spark.createDataFrame(_items()).repartition(n_partitions), sent), "item")
    expected = _kernel_items(load_model(data), _items())
    assert {item_id: idx for item_id, (idx, _, _) in found.items()} == {f"i{n:02d}": n for n in range(N)}
    np.testing.assert_allclose([found[f"i{n:02d}"][1] for n in range(N)], expected, atol=ROUNDING)
    np.testing.assert_allclose([norm for _, _, norm in found.values()], 1.0, atol=ROUNDING)


def test_embed_users_pools_the_newest_items_that_are_known(spark: SparkSession) -> None:
    data = make_model()
    model, sent = load_model(data), broadcast_model(spark, data, _version(data))
    items = fit_item_vectors(embed_items(spark.createDataFrame(_items()), sent))
    # One known; one too many; unknown ones, which take up a place; the same twice; none.
    recent = [["i05"], ["i01", "i02", "i03", "i04"], ["gone", "i07", "lost", "i08"], ["i09", "i09"], []]
    found = _by_id(embed_users(spark.createDataFrame(_users(recent)).repartition(2), sent, items), "user")
    v = _kernel_items(model, _items())
    half = 0.5 ** (1 / SHAPE.half_life_items)
    pooled = np.array(
        [
            v[5],
            (v[1] + half * v[2] + half**2 * v[3]) / (1 + half + half**2),
            v[7],
            v[9],
            np.zeros(SHAPE.dim),
        ],
        np.float32,
    )
    expected = embed(model.user, model.user_inputs.encode(_users(recent)), pooled, True)
    np.testing.assert_allclose([found[f"u{at}"][1] for at in range(5)], expected, atol=ROUNDING)
    assert [found[f"u{at}"][0] for at in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("batch_bytes", "work_bytes"), [(1, 1), (300, 2000), (1 << 20, 1)])
def test_embed_gives_the_same_in_small_pieces(
    monkeypatch: pytest.MonkeyPatch, batch_bytes: int, work_bytes: int
) -> None:
    data, rng = make_model(), np.random.default_rng(4)
    recent = [[f"i{n:02d}" for n in rng.integers(0, 2 * N, size)] for size in rng.integers(0, 6, 30)]
    vectors = ItemVectors(_items()["item_id"].combine_chunks(), _kernel_items(load_model(data), _items()))
    whole = (
        _in_process(adapter._embed_items, data, _items()),
        _in_process(adapter._embed_users, data, _users(recent), vectors),
    )
    monkeypatch.setattr(adapter, "_BATCH_BYTES", batch_bytes)
    monkeypatch.setattr(adapter, "_WORK_BYTES", work_bytes)
    pieces = (
        _in_process(adapter._embed_items, data, _items()),
        _in_process(adapter._embed_users, data, _users(recent), vectors),
    )
    for one, other in zip(whole, pieces, strict=True):
        assert one.drop(["vector", "norm"]).equals(other.drop(["vector", "norm"]))
        np.testing.assert_allclose(_matrix(other), _matrix(one), atol=ROUNDING)


def test_embed_works_on_no_more_at_once_than_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    data, sizes = make_model(), []
    kernel = adapter.embed

    def measured(tower, encoded, pooled, normalize):
        sizes.append(len(encoded.dense))
        return kernel(tower, encoded, pooled, normalize)

    monkeypatch.setattr(adapter, "embed", measured)
    # Of an item with three words: 4 bytes times 3 * 2 * 4 + 5 * 4 + 2 * 3.
    monkeypatch.setattr(adapter, "_WORK_BYTES", 10 * 4 * (3 * 2 * 4 + 5 * 4 + 2 * 3))
    titled = _items().filter(pa.compute.is_valid(_items()["title"])).slice(0, 20)
    _in_process(adapter._embed_items, data, titled)
    assert sizes == [10, 10]


def test_embed_gives_zeros_for_what_is_not_finite_or_zero_and_spoils_nothing_else() -> None:
    plain = TowerInputs((Field("category", "category"),), n_buckets=4096)
    shape = SHAPE.__class__(4, 3, False, 3, 2.0)
    weights = make_weights(plain, plain, shape)
    bucket = {name: int(hashed("category", [name], 4096)[0]) for name in ("inf", "zero", "long", "fine")}
    assert len(set(bucket.values())) == 4
    for tower in ("item", "user"):
        weights[f"{tower}.out"] *= 0
        weights[f"{tower}.out_bias"] *= 0
        weights[f"{tower}.bias"] = np.full(4, 2.0, np.float32)
        weights[f"{tower}.into"] = np.full((4, 3), 3.0, np.float32)
        weights[f"{tower}.buckets"][bucket["zero"]] = -2.0
        weights[f"{tower}.buckets"][bucket["inf"]] = 3e38  # the hidden layer overflows
        weights[f"{tower}.buckets"][bucket["long"]] = [0, 0, -3e38, -3e38]  # finite, and the float32 norm is not
        weights[f"{tower}.buckets"][bucket["fine"]] = 1.0
    names = ["fine", "inf", "fine", "zero", "fine", "long", "inf", "fine"]
    table = pa.table(
        {"item_idx": pa.array(range(8), pa.int32()), "item_id": [f"i{n}" for n in range(8)], "category": names}
    )
    found = _in_process(adapter._embed_items, make_model(weights, plain, plain, shape), table)
    expected = {"fine": [3.0] * 4, "inf": [0.0] * 4, "zero": [0.0] * 4, "long": [0.0] * 4}
    np.testing.assert_array_equal(_matrix(found), [expected[name] for name in names])
    norms = {"fine": 6.0, "inf": 0.0, "zero": 0.0, "long": 0.0}
    assert found["norm"].to_pylist() == [norms[name] for name in names]
    weights["user.history"] = np.eye(4, dtype=np.float32)
    users = pa.table(
        {
            "user_idx": pa.array(range(4), pa.int32()),
            "user_id": [f"u{n}" for n in range(4)],
            "category": ["inf", "fine", "fine", "fine"],
            "recent_items": [["b"], ["a"], ["b"], ["a"]],
        }
    )
    vectors = ItemVectors(pa.array(["a", "b"]), np.eye(2, 4, dtype=np.float32))
    found = _in_process(adapter._embed_users, make_model(weights, plain, plain, shape), users, vectors)
    np.testing.assert_array_equal(_matrix(found), [[0.0] * 4, [4, 3, 3, 3], [3, 4, 3, 3], [4, 3, 3, 3]])


def test_embed_refuses_a_model_that_was_altered_on_its_way() -> None:
    data = make_model()
    flipped = bytearray(data)
    flipped[-1] ^= 1
    with pytest.raises(DamagedError, match=f"expected a model of sha256 {_version(data)} on the worker, got"):
        _ = WorkerModel(bytes(flipped), _version(data)).model


def test_embed_loads_the_model_once_in_a_worker(spark: SparkSession) -> None:
    data = make_model()
    sent = broadcast_model(spark, data, _version(data))

    def loaded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(batches)
        token = vars(sent.value.model).setdefault("token", uuid4().hex)
        yield pa.RecordBatch.from_pydict({"pid": [os.getpid()], "token": [token]})

    rows = spark.range(0, 64, 1, 16).mapInArrow(loaded, "pid long, token string").collect()
    assert len(rows) == 16
    assert len({row["pid"] for row in rows}) < 16
    assert len({row["token"] for row in rows}) == len({row["pid"] for row in rows})


def test_send_model_and_fit_item_vectors_are_bounded(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_model()
    items = spark.createDataFrame([("a", [1.0, 2.0]), ("b", [3.0, 4.0])], "item_id string, vector array<float>")
    fitted = fit_item_vectors(items)
    order = np.argsort(fitted.ids.to_pylist())
    np.testing.assert_array_equal(fitted.vectors[order], [[1, 2], [3, 4]])
    monkeypatch.setattr(adapter, "MAX_VECTOR_BYTES", 15)
    with pytest.raises(KernelError, match=r"at most 15 bytes of vectors of items, got 16; lower two_tower\.dim"):
        fit_item_vectors(items)
    monkeypatch.setattr(adapter, "MAX_MODEL_BYTES", len(data) - 1)
    with pytest.raises(KernelError, match=r"lower two_tower\.max_id_buckets"):
        broadcast_model(spark, data, _version(data))


def test_embed_does_not_load_torch() -> None:
    code = (
        "import sys, recsys_spark.two_tower.embedding, recsys_spark.two_tower.step_embed; print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
