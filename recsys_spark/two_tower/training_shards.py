"""Training shards of the two-tower model as files: users with their histories, and items.

Owns: the columns of both, and their names in the scratch of the step.  The workers of `two_tower.training_stage` write
them, the process that trains reads them.
"""

import numpy as np
import pyarrow as pa

from recsys_spark.two_tower.kernels.batches import Shard
from recsys_spark.two_tower.kernels.inputs import Encoded
from recsys_spark.warehouse.scratch import Scratch


def write_users(scratch: Scratch, number: int, shard: Shard) -> None:
    """Stores a shard of users."""
    columns = {
        "user_idx": pa.array(shard.users.astype(np.int32)),
        "items": _lists(shard.indptr, shard.items.astype(np.int32)),
        "times": _lists(shard.indptr, shard.times.astype(np.int64)),
        "weights": _lists(shard.indptr, shard.weights.astype(np.float32)),
        "shown": _rows(shard.shown.astype(np.int32)),
    }
    scratch.write_table(_user_file(number), pa.table(columns | _encoded_columns(shard.encoded)))


def read_users(scratch: Scratch, number: int) -> Shard:
    """The shard of users of that number."""
    table = scratch.read_table(_user_file(number)).combine_chunks()
    users = table["user_idx"].to_numpy()
    indptr, items = _ragged(table, "items")
    shown = _matrix(table, "shown", np.int32)
    return Shard(users, indptr, items, _ragged(table, "times")[1], _ragged(table, "weights")[1], shown, _encoded(table))


def write_items(scratch: Scratch, number: int, encoded: Encoded) -> None:
    """Stores a shard of items, whose rows follow on those of the shard before."""
    scratch.write_table(_item_file(number), pa.table(_encoded_columns(encoded)))


def read_items(scratch: Scratch, n_shards: int) -> Encoded:
    """All items, in the order of their idx."""
    tables = [scratch.read_table(_item_file(number)) for number in range(n_shards)]
    return _encoded(pa.concat_tables(tables).combine_chunks())


def _user_file(number: int) -> str:
    return f"users-{number:05d}"


def _item_file(number: int) -> str:
    return f"items-{number:05d}"


def _encoded_columns(encoded: Encoded) -> dict[str, pa.Array]:
    columns = {
        "dense": _rows(encoded.dense),
        "buckets": _lists(encoded.indptr, encoded.buckets),
        "bucket_weights": _lists(encoded.indptr, encoded.weights),
    }
    return columns | ({"id": pa.array(encoded.ids)} if len(encoded.ids) else {})


def _encoded(table: pa.Table) -> Encoded:
    indptr, buckets = _ragged(table, "buckets")
    ids = table["id"].to_numpy() if "id" in table.column_names else np.empty(0, np.int32)
    return Encoded(_matrix(table, "dense", np.float32), indptr, buckets, _ragged(table, "bucket_weights")[1], ids)


def _lists(indptr: np.ndarray, values: np.ndarray) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(indptr.astype(np.int64)), pa.array(values))


def _rows(matrix: np.ndarray) -> pa.Array:
    return _lists(np.arange(len(matrix) + 1) * matrix.shape[1], matrix.ravel())


def _ragged(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    lists = table[name].combine_chunks() if table.num_rows else pa.array([], table.schema.field(name).type)
    offsets = lists.offsets.to_numpy()
    return offsets - offsets[0], lists.flatten().to_numpy()


def _matrix(table: pa.Table, name: str, dtype: type[np.generic]) -> np.ndarray:
    _, values = _ragged(table, name)
    return (
        np.asarray(values, dtype).reshape(table.num_rows, -1) if len(values) else np.empty((table.num_rows, 0), dtype)
    )
