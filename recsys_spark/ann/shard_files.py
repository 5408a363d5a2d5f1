"""The two files of an index shard: the FAISS index, and the vectors of its items for the exact scores.

Owns: their form, and that a shard that is opened is the one that the manifest names.

The vectors are raw float32, row after row in the order of item_idx, and the index holds exactly these item_idx as ids:
so a file of vectors can be mapped, and an item is found in it by bisection.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from recsys_spark.ann.kernels.faiss_index import index_facts, load_index, map_index, stored_ids
from recsys_spark.errors import DamagedError
from recsys_spark.warehouse.blobs import check_blob, read_blob
from recsys_spark.warehouse.location import Location

INDEX_SUFFIX = ".faiss"
VECTORS_SUFFIX = ".f32"

_RERUN = "run the date again, or go back to a whole bundle with `recsys-spark rollback`"


@dataclass(frozen=True)
class Shard:
    """A shard in memory, or mapped.

    row: its row of `ann_shards`.  ids: item_idx of its items, ascending, int64 (n,).  vectors: float32 (n, dim),
    mapped, not to be written to.
    """

    row: Mapping[str, Any]
    index: faiss.Index
    ids: np.ndarray
    vectors: np.ndarray


def open_shard(root: Location, row: Mapping[str, Any], mapped: bool = False) -> Shard:
    """The shard of one row of `ann_shards`, both files hashed from end to end.

    mapped: the index is mapped too, not read into memory.
    Raises DamagedError, with the number of the shard, for a file that is missing, cut, altered or another one, and for
    an index that is not what the row says.
    """
    where = f"shard {row['shard']}"
    try:
        vectors_path = check_blob(root, row["vectors_rel_path"], row["vectors_sha256"], row["vectors_n_bytes"])
        if mapped:
            index = map_index(check_blob(root, row["rel_path"], row["sha256"], row["n_bytes"]))
        else:
            index = load_index(read_blob(root, row["rel_path"], row["sha256"]), row["n_bytes"])
    except DamagedError as err:
        raise DamagedError(f"{where}: {err}") from err
    ids = stored_ids(index)
    _check(where, row, index, ids)
    vectors = np.memmap(vectors_path, np.float32, mode="r")
    if len(vectors) % len(ids):
        raise DamagedError(f"{where}: expected vectors of {len(ids)} items, got {len(vectors)} numbers; {_RERUN}")
    return Shard(row, index, ids, vectors.reshape(len(ids), -1))


def _check(where: str, row: Mapping[str, Any], index: faiss.Index, ids: np.ndarray) -> None:
    facts = index_facts(index)
    found = {"ntotal": facts.ntotal, "d": facts.d, "metric": facts.metric, "nlist": facts.nlist}
    found |= {"min_item_idx": int(ids[0]), "max_item_idx": int(ids[-1])} if len(ids) else {}
    wrong = [f"{name} {row[name]}, got {value}" for name, value in found.items() if row[name] != value]
    if wrong or len(ids) != row["ntotal"] or (np.diff(ids) <= 0).any():
        raise DamagedError(
            f"{where}: expected {'; '.join(wrong) or 'ids that are all different'}; the manifest is of another index: "
            f"{_RERUN}"
        )
