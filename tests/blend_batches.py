"""Lists of sources and users of blend as Arrow batches, written in few words."""

import numpy as np
import pyarrow as pa

from recsys_spark.blend.collect import LIST_FIELDS
from recsys_spark.blend.worker import BlendBroadcast, Settings, VisibleItems, shared_lists
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.tables import RANKED_IDX

ALL_SHOWN = VisibleItems(np.arange(10, dtype=np.int32), pa.array([f"item {number}" for number in range(10)]))
OWN = pa.list_(pa.struct(LIST_FIELDS))


def ranked(*items: int) -> list[dict[str, float]]:
    return [{"item_idx": item, "rank": at + 1, "score": 10.0 - at} for at, item in enumerate(items)]


def make_shared(
    rows: list[tuple[str, str | None, list[dict[str, float]]]],
    sources: tuple[str, ...],
    weights: tuple[float, ...] = (),
    k: int = 3,
    shown: VisibleItems = ALL_SHOWN,
) -> BlendBroadcast:
    names, segments, items = zip(*rows, strict=True) if rows else ((), (), ())
    table = pa.table(
        {
            "source": pa.array(names, pa.string()),
            "segment": pa.array(segments, pa.string()),
            "items": pa.array(items, arrow_type(RANKED_IDX)),
        }
    )
    return shared_lists(table, Settings(sources, weights or (1.0,) * len(sources), 60, k), shown)


def make_users(
    *rows: tuple[str | None, str | None, list[int], list[tuple[str, list[dict[str, float]]]] | None],
) -> pa.RecordBatch:
    user_id, segment, excluded, own = zip(*rows, strict=True)
    named = [None if one is None else [_own_list(name, items) for name, items in one] for one in own]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(user_id, pa.string()),
            pa.array(segment, pa.string()),
            pa.array(excluded, pa.list_(pa.int32())),
            pa.array(named, OWN),
        ],
        names=["user_id", "segment", "excluded", "own"],
    )


def _own_list(source: str, items: list[dict[str, float]]) -> dict:
    return {
        "source": source,
        "item_idx": [item["item_idx"] for item in items],
        "score": [item["score"] for item in items],
    }
