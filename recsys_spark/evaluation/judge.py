"""Evaluation of the lists of a run over the cluster: every figure of every list, judged where the lists are.

Owns: the evaluation setup (lists, popularity and what is known of the items), which lists a judged user is judged on,
and how sums reach the driver.  A worker walks the lists of a block of users once; the lists of each source alone, and
the blends, are made of the same walk.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.blend.block import fuse_scopes
from recsys_spark.blend.collect import fit_had, fit_shared, fit_shown
from recsys_spark.blend.kernels.diversity import NOTHING
from recsys_spark.blend.worker import BlendBroadcast, BlendState, Settings, state_of, walk_scopes
from recsys_spark.config.schema import Config
from recsys_spark.evaluation.kernels.figures import ALL, Block, Figure, add_up, tallies_of
from recsys_spark.evaluation.kernels.list_metrics import coverage, gini
from recsys_spark.evaluation.protocol import HEAVY_ITEMS, POPULAR, fit_item_users, head_items, popular_lists
from recsys_spark.numeric.bootstrap import RESAMPLES, Tally, draw, user_keys
from recsys_spark.numeric.ragged import Ragged, offsets
from recsys_spark.spark.arrow_lists import ragged_of

if TYPE_CHECKING:
    from pyspark import Broadcast

_BLOCK_USERS = 1024  # draws of a block take 4 MB, the walks of ten lists of 200 items 16 MB

_SUMS = "list string, metric_group string, metric string, k int, n array<double>, total array<double>"

PUBLISHED = "published"

_LISTED = "listed"  # how often each item is listed: n holds item indices, total counts


LENGTHS = (20, 100)  # places of a list that are judged, beside all that are stored
POPULAR_28 = next(iter(POPULAR))
_POPULAR_ITEMS = 2000  # enough that hardly anybody has seen nearly all of them
_MAX_SEGMENTS = 10  # groups of users: the segments with most users


@dataclass(frozen=True)
class EvaluationSetup:
    """All that a worker is sent.

    shared: as for the step `blend`; its settings name every list that is judged alone.  blends: settings with the same
    sources, by name.  popular: the source that serendipity compares with.  item_users, n_users: as in
    `evaluation.kernels.figures`.  is_head: bool (n_items,).  heavy_items: as `protocol.HEAVY_ITEMS`.  segments,
    variants: user groups.  lengths: the k of all figures.  rated_places: as in `evaluation.kernels.figures`.
    """

    shared: BlendBroadcast
    blends: Mapping[str, Settings]
    popular: str
    item_users: np.ndarray
    n_users: int
    is_head: np.ndarray
    heavy_items: int
    segments: tuple[str, ...]
    variants: tuple[str, ...]
    lengths: tuple[int, ...]
    seed: int
    rated_places: int = 0


def evaluate_lists(judged: DataFrame, setup: EvaluationSetup) -> dict[Figure, Tally]:
    """Every figure.  judged: as `protocol.judged_users`, with `published` and `variant` as `with_published` adds them.

    With history (`protocol.with_history`) the mix of categories is measured too.
    """
    broadcast = judged.sparkSession.sparkContext.broadcast(setup)
    parts = judged.mapInArrow(_examiner(broadcast), _SUMS)
    total = parts.groupBy("list", "metric_group", "metric", "k").applyInArrow(
        _reducer(len(setup.shared.shown.item_idx)), _SUMS
    )
    return _figures(total.toArrow())


def _examiner(
    broadcast: "Broadcast[EvaluationSetup]",
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def examine(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        setup = broadcast.value
        state = state_of(setup.shared)
        sums: dict[Figure, Tally] = {}
        for batch in batches:
            for first in range(0, batch.num_rows, _BLOCK_USERS):
                sums = add_up([sums, _judge_block(batch.slice(first, _BLOCK_USERS), state, setup)])
        yield _as_batch(sums)

    return examine


def _judge_block(block: pa.RecordBatch, state: BlendState, setup: EvaluationSetup) -> dict[Figure, Tally]:
    """Every figure of one block of users, and how often its lists have each item."""
    lists = _lists(block, state, setup)
    targets, is_known = _targets(block["targets"])
    n_items = block["n_items"].to_numpy(zero_copy_only=False)
    is_new = n_items == 0
    heavy = n_items >= setup.heavy_items
    groups = {"users/light": ~heavy, "users/heavy": heavy}
    for column, names in (("segment", setup.segments), ("variant", setup.variants)):
        for name in names:
            members = pc.fill_null(pc.equal(block[column], name), False)
            groups[f"users/{column}={name}"] = members.to_numpy(zero_copy_only=False)
    is_head = np.append(setup.is_head, False)[targets.values] & is_known
    judged = Block(
        targets=targets,
        is_known=is_known,
        is_new=is_new,
        user_groups=groups,
        item_groups={"items/head": is_head, "items/tail": is_known & ~is_head},
        popular=lists[setup.popular],
        item_users=setup.item_users,
        n_users=max(1, setup.n_users),
        vectors=setup.shared.traits.vectors,
        histories=ragged_of(block["history"]) if "history" in block.schema.names else None,
        categories=_one_each(setup.shared.traits.categories),
        rated_places=setup.rated_places,
    )
    draws = draw(user_keys(block["user_id"].to_numpy(zero_copy_only=False)), setup.seed, RESAMPLES)
    found = tallies_of(judged, lists, setup.lengths, draws)
    k = setup.lengths[0]
    for name, ranked in lists.items():
        listed = ranked.head(k).values
        items, counts = np.unique(listed[listed >= 0], return_counts=True)
        found[Figure(name, ALL, _LISTED, k)] = _Listed(items.astype(float), counts.astype(float))
    return found


@dataclass(frozen=True)
class _Listed(Tally):
    """How often items are listed; n: item indices, total: counts."""

    def __add__(self, other: Tally) -> "_Listed":
        items, at = np.unique(np.concatenate([self.n, other.n]), return_inverse=True)
        return _Listed(items, np.bincount(at, np.concatenate([self.total, other.total]), len(items)))


def _lists(block: pa.RecordBatch, state: BlendState, setup: EvaluationSetup) -> dict[str, Ragged]:
    """Every list that is judged for the block's users, by name."""
    settings = state.settings
    scopes = walk_scopes(block, state, settings.k)
    lists = {PUBLISHED: ragged_of(block["published"])}
    for name, blend in setup.blends.items():
        wanted = [scope for scope in scopes if blend.weights[scope.source] > 0]
        fused = fuse_scopes(wanted, block, replace(state, settings=blend))
        lists[name] = Ragged(fused.indptr, fused.items.astype(np.int64))
    for at, name in enumerate(settings.sources):
        mine = [scope for scope in scopes if scope.source == at]
        weights = tuple(float(other == at) for other in range(len(settings.sources)))
        alone = replace(settings, weights=weights, fusion=None, diversity=NOTHING)
        fused = fuse_scopes(mine, block, replace(state, settings=alone))
        lists[name] = Ragged(fused.indptr, fused.items.astype(np.int64))
    return lists


def _one_each(codes: np.ndarray | None) -> Ragged | None:
    """The category of every item as a row, empty for -1."""
    if codes is None:
        return None
    return Ragged(offsets(codes >= 0), codes[codes >= 0].astype(np.int64))


def _targets(targets: pa.Array) -> tuple[Ragged, np.ndarray]:
    """What each user is judged on, and which of it was known."""
    item_idx, is_known = (pc.struct_field(targets.flatten(), name) for name in ("item_idx", "is_known"))
    lengths = pc.list_value_length(targets).to_numpy(zero_copy_only=False)
    indptr = offsets(lengths)
    values = item_idx.to_numpy(zero_copy_only=False).astype(np.int64)
    return Ragged(indptr, values), is_known.to_numpy(zero_copy_only=False)


def _reducer(n_items: int) -> Callable[[pa.Table], pa.Table]:
    """Adds up the parts of one figure; counts of listed items become coverage and Gini over `n_items`."""

    def reduce(table: pa.Table) -> pa.Table:
        total = add_up(_figures(table.slice(row, 1)) for row in range(table.num_rows))
        for figure in [figure for figure in total if figure.metric == _LISTED]:
            counts = total.pop(figure).total
            total[figure._replace(metric="coverage")] = Tally(np.ones(1), np.array([coverage(counts, max(1, n_items))]))
            if n_items > 1:
                total[figure._replace(metric="gini")] = Tally(np.ones(1), np.array([gini(counts, n_items)]))
        return pa.Table.from_batches([_as_batch(total)])

    return reduce


def _as_batch(sums: Mapping[Figure, Tally]) -> pa.RecordBatch:
    columns = [[figure[at] for figure in sums] for at in range(4)]
    kinds = (pa.string(), pa.string(), pa.string(), pa.int32())
    names = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    doubles = pa.list_(pa.float64())
    arrays = [pa.array([getattr(one, field) for one in sums.values()], doubles) for field in ("n", "total")]
    return pa.RecordBatch.from_arrays([*names, *arrays], names=["list", "metric_group", "metric", "k", "n", "total"])


def _figures(table: pa.Table) -> dict[Figure, Tally]:
    found: dict[Figure, Tally] = {}
    n, total = (table[name].combine_chunks() for name in ("n", "total"))
    names = [table[name].to_pylist() for name in ("list", "metric_group", "metric", "k")]
    for row, (list_name, group, metric, k) in enumerate(zip(*names, strict=True)):
        kind = _Listed if metric == _LISTED else Tally
        values = [np.asarray(column[row].values, float) for column in (n, total)]
        found[Figure(list_name, group, metric, k)] = kind(*values)
    return found


def fit_setup(
    inputs: Mapping[str, DataFrame], judged: DataFrame, settings: Settings, config: Config, cutoff: datetime
) -> EvaluationSetup:
    """What workers need to judge each list of `settings` alone, and both popularities, as of `cutoff`.

    inputs: as the step `blend` reads them.  judged: as `protocol.judged_users`.  No blends yet: see `with_blend`.
    """
    proposed = inputs["source_candidates"].unionByName(
        popular_lists(inputs, config, cutoff, _POPULAR_ITEMS), allowMissingColumns=True
    )
    shared = fit_shared(proposed, _beside_popular(settings), fit_shown(inputs, config, cutoff))
    shared = replace(shared, had=fit_had(inputs["interactions"], inputs["item_index"].count()))
    item_users, n_users = fit_item_users(inputs, config, cutoff)
    segments = judged.where(F.col("segment").isNotNull()).groupBy("segment").count()
    largest = segments.orderBy(F.desc("count"), "segment").limit(_MAX_SEGMENTS).collect()
    lengths = tuple(dict.fromkeys(min(length, config.candidates.k) for length in (*LENGTHS, config.candidates.k)))
    return EvaluationSetup(
        shared=shared,
        blends={},
        popular=POPULAR_28,
        item_users=item_users,
        n_users=n_users,
        is_head=head_items(item_users),
        heavy_items=HEAVY_ITEMS,
        segments=tuple(row["segment"] for row in largest),
        variants=(),
        lengths=lengths,
        seed=config.run.seed,
    )


def with_blend(setup: EvaluationSetup, name: str, settings: Settings) -> EvaluationSetup:
    """The setup with one more list: the blend of the sources by `settings`."""
    shared = setup.shared
    if settings.fusion is not None:
        shared = replace(shared, settings=replace(shared.settings, keeps_scores=True))
    return replace(setup, shared=shared, blends={**setup.blends, name: _beside_popular(settings)})


def _beside_popular(settings: Settings) -> Settings:
    """`settings` with the popularity lists beside the sources, without weight in a blend."""
    n_popular, fusion = len(POPULAR), settings.fusion
    if fusion is not None:
        of_new = None if fusion.of_new is None else np.append(fusion.of_new, np.zeros(n_popular))
        fusion = replace(fusion, weights=np.append(fusion.weights, np.zeros(n_popular)), of_new=of_new)
    weights = (*settings.weights, *[0.0] * n_popular)
    return replace(settings, sources=(*settings.sources, *POPULAR), weights=weights, fusion=fusion)


def with_published(judged: DataFrame, tables: Mapping[str, DataFrame]) -> DataFrame:
    """`judged` with the list that the reader would return, `published` (item_idx, -1 without one), and its `variant`.

    A user without a list of their own gets that of the segment, else that for everybody, and has no variant.
    tables: candidates, fallback_candidates and item_index of one run.
    """
    mine = tables["candidates"].join(judged.select("user_id"), on="user_id", how="left_semi")
    own = _by_index(mine, ("user_id", "variant"), tables["item_index"]).withColumnRenamed("items", "of_user")
    fallback = _by_index(tables["fallback_candidates"], ("segment",), tables["item_index"])
    of_segment = fallback.where(F.col("segment").isNotNull()).withColumnRenamed("items", "of_segment")
    of_all = fallback.where(F.col("segment").isNull()).select(F.col("items").alias("of_all"))
    found = judged.join(F.broadcast(of_segment), on="segment", how="left").crossJoin(F.broadcast(of_all))
    published = F.coalesce("of_user", "of_segment", "of_all").alias("published")
    return found.join(own, on="user_id", how="left").select(*judged.columns, published, "variant")


def _by_index(lists: DataFrame, key: tuple[str, ...], item_index: DataFrame) -> DataFrame:
    """`key` and items: the items of each list as item_idx, in their order; a list without items has none."""
    listed = lists.select(*key, F.posexplode_outer("items.item_id").alias("at", "item_id"))
    known = listed.join(item_index.select("item_id", "item_idx"), on="item_id", how="left")
    one = F.when(F.col("at").isNotNull(), F.struct("at", F.coalesce("item_idx", F.lit(-1)).alias("item_idx")))
    return known.groupBy(*key).agg(F.sort_array(F.collect_list(one))["item_idx"].alias("items"))


def fit_variants(candidates: DataFrame) -> tuple[str, ...]:
    """Names of the variants that have lists; none if there is only one."""
    names = sorted(row["variant"] for row in candidates.select("variant").distinct().collect())
    return tuple(names) if len(names) > 1 else ()
