"""What the judged users of a date are held against: the lists of a run, popularity, and what is known of the items.

Owns: which lists and groups there are.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.adapters.evaluation import Exam
from recsys_spark.adapters.holdout import HEAVY_ITEMS, POPULAR, fit_item_users, head_items, popular_lists
from recsys_spark.blend.collect import fit_had, fit_shared, fit_shown
from recsys_spark.blend.worker import Settings
from recsys_spark.config.schema import Config

LENGTHS = (20, 100)  # places of a list that are judged, beside all that are stored
POPULAR_28 = next(iter(POPULAR))

_POPULAR_ITEMS = 2000  # nobody has seen all but a few of these
_MAX_SEGMENTS = 10  # groups of users, those with most users


def fit_exam(
    inputs: Mapping[str, DataFrame], judged: DataFrame, settings: Settings, config: Config, cutoff: datetime
) -> Exam:
    """What workers need to judge each list of `settings` alone, and both popularities, as of `cutoff`.

    inputs: as the step `blend` reads them.  judged: as `holdout.judged_users`.  No blends yet: see `with_blend`.
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
    return Exam(
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


def with_blend(exam: Exam, name: str, settings: Settings) -> Exam:
    """The exam with one more list: what `settings` make of the sources."""
    shared = exam.shared
    if settings.fusion is not None:
        shared = replace(shared, settings=replace(shared.settings, keeps_scores=True))
    return replace(exam, shared=shared, blends={**exam.blends, name: _beside_popular(settings)})


def _beside_popular(settings: Settings) -> Settings:
    """Popularity stands beside the sources, and has no weight in a blend."""
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
    """Names of the variants that have lists; none if there is one alone."""
    names = sorted(row["variant"] for row in candidates.select("variant").distinct().collect())
    return tuple(names) if len(names) > 1 else ()
