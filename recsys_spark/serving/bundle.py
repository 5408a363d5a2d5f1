"""Reader of one consistent, published bundle, the downstream contract: deltalake and pyarrow, no Spark and no JVM.

Owns: `open_current` and what a service asks of a bundle.  Every table is read by the `run_id` of the head of
`publishes`, never by the greatest one; a bundle that is not whole is refused at opening, never replaced by another.

    bundle = open_current("warehouse")
    for candidate in bundle.candidates("u17").items:
        ...
    bundle = bundle.refresh()  # now and then, between requests
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.errors import ArgumentError, NothingPublished, missing_extra
from recsys_spark.serving.answers import (
    HISTORY_ITEMS,
    Candidates,
    Related,
    Scored,
    candidates_of,
    check_ids,
    check_k,
    for_user,
    nearest,
)
from recsys_spark.serving.item_factors import ItemFactors, item_factors
from recsys_spark.serving.row_lookup import RowLookup
from recsys_spark.serving.user_encoder import UserEncoder, user_encoder
from recsys_spark.warehouse.current_publish import has_moved, publishes_folder, read_head
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.location import Location, locate
from recsys_spark.warehouse.publish_row import PublishRow, check_history
from recsys_spark.warehouse.run_files import RunFiles, open_published
from recsys_spark.warehouse.tables import PUBLISHES, TABLES

if TYPE_CHECKING:
    from recsys_spark.serving.index import AnnIndex


def changed_users(bundle: "Bundle", held_run_id: str) -> pa.Table:
    """user_id, variant and change (added, changed, removed) of every list that is not what run `held_run_id` had.

    Raises ArgumentError if the bundle was compared with another one, as after a rollback, or when a day was left out:
    then every list has to be copied.
    """
    rows = {row.publish_seq: row for row in check_history(read_rows(bundle.root, PUBLISHES))}
    row, before = rows[bundle.publish_seq], rows.get(bundle.publish_seq - 1)
    against = before.run_id if before and row.kind == "publish" else None
    if against != held_run_id:
        raise ArgumentError(
            f"changed_users: expected the run that bundle {bundle.run_id} was compared with, {against or 'none'}, got "
            f"{held_run_id[:80]!r}; copy all of candidates, then keep {bundle.run_id} as the run that is held"
        )
    return bundle.read_table("candidate_changes", ("user_id", "variant", "change"))


_OF_LISTS = ("items", "generated_at", "variant")
_TABLES_AT_ONCE = 8  # an object store takes its time for each request
_BATCH_ROWS = 8192  # about 50 MB of lists of 100 items

_log = logging.getLogger(__name__)


def open_current(root: str | Location) -> "Bundle":
    """The bundle that is current in the warehouse `root`, checked: every table holds the rows that were published.

    Raises NothingPublished before the first publish, and DamagedError if `publishes` or a table is not whole: a file
    that is lost or cut is found here, one that was altered when it is read.
    """
    started = perf_counter()
    folder = locate(root).absolute()
    nothing = NothingPublished(
        f"{root}: expected a published bundle, got none; run `recsys-spark run`, or check the path of the warehouse"
    )
    if not publishes_folder(folder).exists():
        raise nothing
    head, version = read_head(folder)
    if head is None:
        raise nothing
    with ThreadPoolExecutor(_TABLES_AT_ONCE) as pool:
        runs = pool.map(lambda table: open_published(folder, table, head.run_id), head.tables)
        tables = {run.name: run for run in runs}
    seconds = perf_counter() - started
    _log.info("open_bundle run_id=%s publish_seq=%d seconds=%.3f", head.run_id, head.publish_seq, seconds)
    return Bundle(folder, head, version, tables)


def open_index(
    bundle: "Bundle",
    shards: Sequence[int] | None = None,
    part: str | None = None,
    mapped: bool = False,
    threads: int = 1,
) -> "AnnIndex":
    """The index over the embeddings of the bundle's items; every file is hashed before it is used.

    shards: numbers of those to open, None for all; several machines can share them, `merge` joins answers.
    part: only the shards of one value of [ann] partition_by.  mapped: the index stays on disk, as its vectors do.
    threads: shards that are searched at once.
    Raises ArgumentError if the run has no index; DamagedError names the shard that is damaged or of another model.
    """
    try:
        from recsys_spark.serving.index import open_shards
    except ModuleNotFoundError as err:
        raise missing_extra("open_index", err) or err from err

    models = bundle.read_table("two_tower_models", ("model_version",))["model_version"].to_pylist()
    manifest, items = bundle.read_table("ann_shards"), bundle.read_table("item_index", ("item_id", "item_idx"))
    return open_shards(manifest, items, "".join(models), bundle.root, shards, part, mapped, threads)


class Bundle:
    """One published bundle; every answer comes from the same run.

    Safe for concurrent use by threads.  It stays readable for the grace period after it was superseded (at least 48 h),
    whatever is published meanwhile; after that its files may be gone, which is BundleExpired.
    """

    def __init__(self, root: Location, head: PublishRow, version: int, tables: dict[str, RunFiles]) -> None:
        self._root = root
        self._head = head
        self._version = version
        self._tables = tables
        self._lookups = {
            name: RowLookup(run, TABLES[name].sort_by[0]) for name, run in tables.items() if TABLES[name].sort_by
        }

    @property
    def root(self) -> Location:
        """Folder of the warehouse."""
        return self._root

    @property
    def run_id(self) -> str:
        """The run that made the bundle."""
        return self._head.run_id

    @property
    def data_date(self) -> date:
        """As-of day: the bundle knows events before this day, 00:00 UTC."""
        return self._head.data_date

    @property
    def publish_seq(self) -> int:
        """Number of the publish or rollback that made the bundle current."""
        return self._head.publish_seq

    @property
    def published_at(self) -> datetime:
        """When it became current, UTC."""
        return self._head.published_at

    def refresh(self) -> "Bundle":
        """The current bundle: this one if nothing was published since, at the price of two looks at the file system.

        Raises DamagedError if the new head is not whole; this bundle can then still be used.
        """
        return open_current(self._root) if has_moved(self._root, self._version) else self

    def candidates(self, user_id: str, segment: str | None = None, variant: str | None = None) -> Candidates:
        """The stored list of a user; of their segment if the user has none; of everybody if the segment has none.

        segment: of a user for whom the run knows none, such as one who signed up today.  variant: the list of that
        experiment alone; None: the user's own.  A warehouse without any list for everybody gives an empty one.
        """
        check_ids("candidates", [user_id])
        row = self._lookup("candidates").find(user_id, {"variant": variant} if variant else {}, _OF_LISTS)
        if row is not None:
            return candidates_of(user_id, row, "user")
        known = self._lookup("user_features").find(user_id, columns=("segment",))
        own_segment = known["segment"][0].as_py() if known is not None else None
        for wanted in (own_segment or segment, None):
            if wanted in self._fallbacks:
                origin: Literal["segment", "global"] = "global" if wanted is None else "segment"
                return candidates_of(user_id, self._fallbacks[wanted], origin)
        return Candidates(user_id, (), "global", self.published_at)

    def related(self, item_id: str, user_id: str | None = None, k: int = 50) -> tuple[Related, ...]:
        """The `k` items nearest to `item_id` that may be shown, best first; () for an item without any.

        user_id: what the user had lately is left out, and what is also near to it comes first (see `answers.for_user`).
        """
        check_ids("related", [item_id] if user_id is None else [item_id, user_id])
        check_k("related", k)
        lookup = self._lookup("item_neighbors")
        row = lookup.find(item_id, columns=("neighbors",))
        if row is None:
            return ()
        known = None if user_id is None else self._lookup("user_features").find(user_id, columns=("recent_items",))
        if known is None:
            return nearest(row, k)
        recent = known["recent_items"][0].as_py()
        return for_user(row, recent, lookup.find_many(recent[:HISTORY_ITEMS], ("item_id", "neighbors")), k)

    def fold_in(self, events: Iterable[tuple[str, float]], k: int = 50) -> tuple[Scored, ...]:
        """The `k` best items for a session that no run has seen, of (item_id, weight); () if no item is known.

        The first call reads all factors of items (see `item_factors.ItemFactors.score_session`).
        """
        given = list(events)
        check_ids("fold_in", [item_id for item_id, _ in given])
        return self._item_factors.score_session(given, check_k("fold_in", k))

    def encode_user(self, features: Mapping[str, Any], recent_items: Sequence[str]) -> np.ndarray:
        """The embedding of a user whom the run need not know, float32, by the user tower of the bundle's model.

        The first call reads the model and all items' embeddings (see `user_encoder.UserEncoder.encode`).
        """
        check_ids("encode_user", recent_items)
        return self._user_encoder.encode(features, recent_items)

    def nearest(self, vector: np.ndarray, k: int = 50, exclude: Iterable[str] = ()) -> tuple[Scored, ...]:
        """The `k` items nearest to an embedding that may be shown and are not in `exclude`, best first."""
        left_out = list(exclude)
        check_ids("nearest", left_out)
        return self._user_encoder.nearest(vector, check_k("nearest", k), left_out)

    def user_features(self, user_id: str) -> dict[str, Any] | None:
        """Every feature of a user by column name, `recent_items` newest first; None for a user whom the run ignores."""
        check_ids("user_features", [user_id])
        row = self._lookup("user_features").find(user_id)
        return None if row is None else self._as_dicts("user_features", row)[0]

    def item_features(self, item_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Every feature of each item by column name; items that the run does not know are left out."""
        wanted = list(dict.fromkeys(item_ids))
        check_ids("item_features", wanted)
        rows = [
            row
            for table in self._lookup("item_features").find_many(wanted)
            for row in self._as_dicts("item_features", table)
        ]
        found = {row["item_id"]: row for row in rows}
        return {item_id: found[item_id] for item_id in wanted if item_id in found}

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a table of the bundle, with the columns of the stored table but `run_id`, or those asked for."""
        return pa.Table.from_batches(self.read_batches(name, columns), self._schema(name, columns))

    def read_batches(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of `read_table` as record batches of at most 8192 rows, file by file."""
        run = self._run(name)
        schema = self._schema(name, columns)
        for file in run.files:
            with (
                run.reading(file, "a Parquet file") as source,
                pq.ParquetFile(source, coerce_int96_timestamp_unit="us", page_checksum_verification=True) as stored,
            ):
                run.check_columns(file, stored.schema_arrow)
                present = [column for column in schema.names if column in stored.schema_arrow.names]
                for batch in stored.iter_batches(_BATCH_ROWS, columns=present):
                    yield _as_declared(batch, schema)

    def _run(self, name: str) -> RunFiles:
        if name not in self._tables:
            raise ArgumentError(
                f"bundle {self.run_id}: expected one of {sorted(self._tables)}, got {name!r}; a table that is newer "
                "than the bundle is in the next one"
            )
        return self._tables[name]

    def _lookup(self, name: str) -> RowLookup:
        self._run(name)
        return self._lookups[name]

    def _schema(self, name: str, columns: Sequence[str] | None) -> pa.Schema:
        schema = self._run(name).schema
        if columns is None:
            return schema
        if unknown := [column for column in columns if column not in schema.names]:
            raise ArgumentError(f"{name}: expected columns of {schema.names}, got {unknown}; leave them out")
        return pa.schema([schema.field(column) for column in columns])

    def _as_dicts(self, name: str, rows: pa.Table) -> list[dict[str, Any]]:
        """Rows as dicts in the order of the table's columns; a column that is newer than the bundle is None."""
        schema = self._run(name).schema
        batches = [_as_declared(batch, schema) for batch in rows.to_batches()]
        return [row for batch in batches for row in batch.to_pylist(maps_as_pydicts="strict")]

    @cached_property
    def _item_factors(self) -> ItemFactors:
        table = self.read_table("item_factors", ("item_id", "item_idx", "vector", "shown"))
        return item_factors(table, self._root, self.run_id)

    @cached_property
    def _user_encoder(self) -> UserEncoder:
        items = self.read_table("item_embeddings", ("item_id", "item_idx", "vector", "shown"))
        return user_encoder(self.read_table("two_tower_models"), items, self._root, self.run_id)

    @cached_property
    def _fallbacks(self) -> dict[str | None, pa.Table]:
        """The row of each segment, and under None the one for everybody; a few hundred lists at most."""
        rows = self.read_table("fallback_candidates")
        return {segment: rows.slice(at, 1) for at, segment in enumerate(rows["segment"].to_pylist())}


def _as_declared(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` with the columns and types of `schema`; a column that is newer than the bundle's files is null."""
    columns = [
        batch[field.name].cast(field.type) if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.record_batch(columns, schema=schema)
