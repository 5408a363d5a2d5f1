"""A published warehouse without Spark: bundle tables by delta-rs, publish rows sealed and appended as publish does."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, WriterProperties, write_deltalake

from recsys_spark.features.declared import declared_tables
from recsys_spark.plan import BUNDLE_TABLES
from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.ledger import append_rows, create_tables, read_rows
from recsys_spark.warehouse.publish_row import check_history, seal_row
from recsys_spark.warehouse.tables import PUBLISHES, RUN_STEPS

RUN_A = "20250131-001-9f2c81aa"
RUN_B = "20250201-001-0badcafe"
GENERATED_AT = datetime(2025, 1, 31, 4, 5, 6, 789, tzinfo=UTC)


def make_items(run: str, user_id: str, k: int = 3) -> list[dict[str, Any]]:
    """A list that tells by its scores which run it is of, and by its provenance which user."""
    offset = 0.5 if run == RUN_B else 0.0
    return [
        {
            "item_id": f"i{rank}",
            "rank": rank,
            "score": 1.0 / rank + offset,
            # A ragged provenance, so that offsets matter.
            "sources": [
                {"source": f"s{n}/{user_id}", "rank": rank + n, "score": float(n)} for n in range(1 + rank % 2)
            ],
        }
        for rank in range(1, k + 1)
    ]


# Lists of related items by item: (item, similarity).
NEIGHBORS = {
    "i1": [("i2", 0.75), ("i3", 0.5), ("i4", 0.25), ("i5", 0.125)],
    "i2": [("i4", 0.5), ("i1", 0.25)],
    "i9": [("i1", 0.5)],
}


def make_neighbors() -> list[dict[str, Any]]:
    """Rows of `item_neighbors` with the lists of NEIGHBORS."""
    return [
        {
            "item_id": item_id,
            "item_idx": at,
            "neighbors": [{"item_id": one, "item_idx": 0, "score": score} for one, score in listed],
        }
        for at, (item_id, listed) in enumerate(sorted(NEIGHBORS.items()))
    ]


# Factors of items by item: two groups, and one item that may not be shown.
FACTORS = {"i1": [1.0, 0.0], "i2": [0.75, 0.125], "i3": [0.0, 1.0], "i4": [0.125, 0.75], "i5": [0.875, 0.0]}
HIDDEN = {"i5"}
MODEL = "e" * 64  # nobody reads its weights
FIT = {"alpha": 2.0, "regularization": 0.1, "nu": 0.0, "unobserved": 1.0, "n_cols": 20.0, "norm_exponent": 1.0}


def make_factors() -> list[dict[str, Any]]:
    """Rows of `item_factors` with the vectors of FACTORS."""
    return [
        {"item_id": one, "item_idx": at, "vector": vector, "weight": 1.0, "n": 1, "shown": one not in HIDDEN}
        for at, (one, vector) in enumerate(sorted(FACTORS.items()))
    ]


def make_shard_row() -> dict[str, Any]:
    """A row of `ann_shards` whose files nobody opens; tests/index_files.py makes real ones."""
    files = {"rel_path": f"blobs/{MODEL}.faiss", "vectors_rel_path": f"blobs/{MODEL}.f32"}
    texts = {
        "sha256": MODEL,
        "vectors_sha256": MODEL,
        "metric": "inner_product",
        "factory": "Flat",
        "faiss_version": "1",
    }
    return files | texts | {"shard": 0, "n_shards": 1, "ntotal": 1, "model_version": MODEL}


def make_rows(run: str, user_ids: list[str], segments: Mapping[str, str | None]) -> dict[str, list[dict[str, Any]]]:
    """Rows of every bundle table: lists for `user_ids`, features for these and for the users in `segments`."""
    item_ids = [f"i{rank}" for rank in range(1, 21)]
    known = sorted({*user_ids, *segments})
    return {
        "user_index": [{"user_idx": at, "user_id": one} for at, one in enumerate(known)],
        "item_index": [{"item_idx": at, "item_id": one} for at, one in enumerate(sorted(item_ids))],
        "user_features": [
            {"user_id": one, "segment": segments.get(one), "recent_items": ["i2", "i1"]} for one in known
        ],
        "item_features": [{"item_id": one, "title": f"Title {one} of {run}"} for one in sorted(item_ids)],
        "item_neighbors": make_neighbors(),
        "user_factors": [{"user_id": one, "user_idx": at, "vector": [1.0, 0.0]} for at, one in enumerate(known)],
        "item_factors": make_factors(),
        "two_tower_models": [{"model_version": MODEL, "rel_path": f"blobs/{MODEL}.safetensors", "card": "{}"}],
        "user_embeddings": [
            {"user_id": one, "user_idx": at, "vector": [1.0, 0.0], "norm": 1.0, "model_version": MODEL}
            for at, one in enumerate(known)
        ],
        "item_embeddings": [
            {"item_id": one, "item_idx": at, "vector": [0.0, 1.0], "norm": 1.0, "model_version": MODEL, "shown": True}
            for at, one in enumerate(sorted(item_ids))
        ],
        "ann_shards": [make_shard_row()],
        "candidates": [
            {"user_id": one, "variant": "main", "items": make_items(run, one), "generated_at": GENERATED_AT}
            for one in sorted(user_ids)
        ],
        "fallback_candidates": [
            {"segment": segment, "items": make_items(run, str(segment)), "generated_at": GENERATED_AT}
            for segment in (None, *sorted({one for one in segments.values() if one}))
        ],
        "choices": [
            {"kind": "settings", "name": "all", "settings": "{}", "n_users": 0, "chosen": True, "why": "none tried"}
            | {"held_out": "", "made_on": date(2025, 1, 1), "n_pairs": 0, "config_hash": ""}
        ],
        "blend_fits": [{"variant": "main", "method": "rrf", "scaling": None, "weights": []}],
        "quality": [
            {"judged_run_id": run, "judged_from": date(2025, 1, 1), "judged_to": date(2025, 1, 2), "list": "published"}
            | {"users_or_items": "all", "metric": "recall", "k": 20, "n_users": 1, "estimate": 0.5}
        ],
        "ranking_examples": [
            {"list_run_id": run, "list_date": date(2025, 1, 1), "user_id": one, "item_id": "i1", "variant": "main"}
            for one in sorted(user_ids)
        ],
        "candidate_changes": [
            {"user_id": one, "variant": "main", "change": "added", "against_run_id": None} for one in sorted(user_ids)
        ],
    }


def stage_rows(root: Path, run: str, rows: Mapping[str, list[dict[str, Any]]], row_group: int = 4) -> None:
    """Writes the rows of a run, `row_group` to a Parquet row group, so that lookups have several to choose from."""
    for name, table_rows in rows.items():
        schema = _filled_schema(name)
        frame = pa.Table.from_pylist([_filled(schema, row) | {"run_id": run} for row in table_rows], schema=schema)
        stage_table(root, name, frame, row_group)


def stage_table(root: Path, name: str, frame: pa.Table, row_group: int) -> None:
    """Appends one file of rows that carry their run_id."""
    properties = WriterProperties(max_row_group_size=row_group, write_batch_size=row_group)
    write_deltalake(table_path(root, name), frame, mode="append", writer_properties=properties)


def _filled_schema(name: str) -> pa.Schema:
    return arrow_schema(declared_tables()[name])


def _filled(schema: pa.Schema, row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` with a zero, or an empty list, for every further column that may not be null: features come and go."""
    missing = [field for field in schema if not field.nullable and field.name not in row]
    empty = {field.name: [] for field in missing if pa.types.is_list(field.type)}
    zeros = {
        field.name: pa.scalar(0).cast(field.type).as_py() for field in missing if pa.types.is_primitive(field.type)
    }
    return empty | zeros | dict(row)


def append_publish(root: Path, run: str, n_rows: Mapping[str, int], kind: str = "publish", **fields: Any) -> int:
    """Appends the sealed publish row of a run and returns its publish_seq."""
    history = check_history(read_rows(root, PUBLISHES))
    head = history[-1].publish_seq if history else 0
    row = {
        "publish_seq": head + 1,
        "kind": kind,
        "run_id": run,
        "data_date": date(int(run[:4]), int(run[4:6]), int(run[6:8])),
        "prev_seq": head,
        "tables": [
            {
                "name": name,
                "rel_path": f"tables/{name}",
                "delta_version": 2,
                "n_rows": n,
                "content_hash": "c" * 64,
                "schema_hash": "5" * 64,
            }
            for name, n in n_rows.items()
        ],
        "config_hash": "0" * 64,
        "code_version": "0.1.0",
        "grace_hours": 48,
        "published_at": datetime(2025, 2, 1, 6, tzinfo=UTC) + timedelta(days=head),
    }
    append_rows(root, PUBLISHES, [seal_row(row | fields)])
    return head + 1


def publish_bundle(root: Path, run: str, user_ids: list[str], segments: Mapping[str, str | None] | None = None) -> None:
    """Stages and publishes a whole small bundle."""
    create_tables(root, [declared_tables()[name] for name in (*BUNDLE_TABLES, "run_steps", "publishes")])
    rows = make_rows(run, user_ids, segments or {})
    stage_rows(root, run, rows)
    done = {"run_id": run, "step": "als", "started_at": GENERATED_AT, "seconds": 1.0, "recorded_at": GENERATED_AT}
    append_rows(root, RUN_STEPS, [done | {"n_rows": {}, "content_hashes": {}, "figures": FIT}])
    append_publish(root, run, {name: len(table_rows) for name, table_rows in rows.items()})


def collect_run(root: Path, run: str) -> None:
    """What gc does to a run: its rows leave the log, then its files leave the disk."""
    for name in BUNDLE_TABLES:
        drop_run(root, name, run)
        DeltaTable(table_path(root, name)).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def drop_run(root: Path, name: str, run: str) -> None:
    """Takes the rows of a run out of a table's log; their files stay."""
    DeltaTable(table_path(root, name)).delete(f"run_id = '{run}'")


def log_file(root: Path, name: str) -> Path:
    """The newest commit file of a table."""
    return max(Path(table_path(root, name), "_delta_log").glob("*.json"))
