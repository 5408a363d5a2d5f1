"""Content gates: statistics over all lists, compared with those of the bundle before; no single list would show them.

Owns: what is measured over all lists at once, and its bounds.  Lists are compared with those of the newest bundle of an
earlier date; without one, gates that compare are skipped, and say so.
"""

from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.blend.worker import EXPLORE
from recsys_spark.context import Context
from recsys_spark.pipeline.gates.verdict import Gate, Measured, verdict
from recsys_spark.signals.visibility import shown_items


@dataclass(frozen=True)
class _Lists:
    """All lists at once.  n_common: lists of users who had one before; share: of their items those that they had."""

    n: int
    n_repeated: int
    n_common: int
    share_common: float


def content(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """The verdicts on the content of the staged candidates."""
    audit = context.config.audit
    lists = _measure_lists(inputs)
    overlap, repeated = f">= {audit.min_overlap}", f"<= {audit.max_repeated_lists}"
    gates = [Gate("overlap", "skipped", None, overlap, _NO_BASE)]
    if lists.n_common:
        detail = f"{lists.n_common} users with a list in both bundles"
        gates = [verdict("overlap", lists.share_common >= audit.min_overlap, lists.share_common, overlap, detail)]
    share = lists.n_repeated / max(1, lists.n)
    if lists.n < _FEW_LISTS:
        gates.append(Gate("repeated_lists", "skipped", share, repeated, f"fewer than {_FEW_LISTS} lists"))
    else:
        detail = f"{lists.n_repeated} of {lists.n} users have the same list"
        gates.append(verdict("repeated_lists", share <= audit.max_repeated_lists, share, repeated, detail))
    return [*gates, *_item_gates(inputs, context, lists.n)]


_NO_BASE = "no bundle of an earlier date, or nobody with a list in both"
_NO_JUMP = f"{_NO_BASE}, or every item is in the lists for everybody too"
_FEW_LISTS = 20  # with fewer, it says nothing that several users have the same list
_FIRST_PLACES = 20  # of a list, in which a rise of an item counts
_LONG_LISTS = 0.75  # a list of more than this share of all listed items has room for anything new


def _measure_lists(inputs: dict[str, DataFrame]) -> _Lists:
    """Counts over all lists, in one query."""
    new = inputs["candidates"].select("user_id", "variant", F.col("items.item_id").alias("items"))
    old = _base(inputs).select("user_id", "variant", F.col("items.item_id").alias("before"))
    is_common = F.col("before").isNotNull() & (F.size("items") > 0)
    share = F.size(F.array_intersect("items", "before")) / F.size("items")
    row: Any = (
        new.join(old, on=["user_id", "variant"], how="left")
        .select(
            F.when(F.size("items") > 0, F.xxhash64("items")).alias("content"),
            F.when(is_common, share).alias("share"),
        )
        .groupBy("content")
        .agg(F.count(F.lit(1)).alias("n"), F.count("share").alias("n_common"), F.sum("share").alias("share"))
        .agg(
            F.sum("n").alias("n"),
            F.max(F.when(F.col("content").isNotNull(), F.col("n"))).alias("n_repeated"),
            F.sum("n_common").alias("n_common"),
            F.sum("share").alias("share"),
        )
        .first()
    )
    n_common = int(row["n_common"] or 0)
    return _Lists(int(row["n"] or 0), int(row["n_repeated"] or 0), n_common, (row["share"] or 0.0) / max(1, n_common))


def _item_gates(inputs: dict[str, DataFrame], context: Context, n_lists: int) -> list[Gate]:
    """Only available items; no item that jumped into most lists; not too many never engaged with, or of one brand."""
    audit = context.config.audit
    row = _measure_items(inputs, context, n_lists)
    # If fewer items were ever engaged with than a list is long, the rest of it must be items that nobody engaged with.
    length = row["n_listed"] / max(1, n_lists)
    most_never = max(audit.max_never_engaged, round(1 - row["n_engaged"] / max(1.0, length), 4))
    bounds = {
        "unavailable_items": ("0", not row["n_unavailable"]),
        "never_engaged": (f"<= {most_never}", (row["share_never"] or 0.0) <= most_never),
        "one_brand": (f"<= {audit.max_one_brand}", (row["brand_share"] or 0.0) <= audit.max_one_brand),
        "item_jump": (f"<= {audit.max_item_jump}", (row["jump"] or 0.0) <= audit.max_item_jump),
    }
    figures = {
        "unavailable_items": (row["n_unavailable"], f"e.g. {row['unavailable']!r}" if row["n_unavailable"] else ""),
        "never_engaged": (row["share_never"], "share of what is listed that nobody has engaged with"),
        "one_brand": (row["brand_share"], f"brand {row['brand']!r}" if row["n_brands"] else ""),
        "item_jump": (row["jump"], f"item {row['jumped']!r}: rise of the share of lists that have it near the top"),
    }
    long = row["n_listed"] > _LONG_LISTS * n_lists * row["n_items"]
    skipped = {
        "never_engaged": "no item is listed" if row["share_never"] is None else "",
        "one_brand": "fewer than two brands are known" if row["n_brands"] < 2 else "",
        "item_jump": "a list holds most of what is listed at all" if long else _NO_JUMP if row["jump"] is None else "",
    }
    gates = []
    for name, (bound, passed) in bounds.items():
        figure, detail = figures[name]
        if skipped.get(name):
            gates.append(Gate(name, "skipped", figure, bound, skipped[name]))
        else:
            gates.append(verdict(name, passed, figure, bound, detail))
    return gates


def _measure_items(inputs: dict[str, DataFrame], context: Context, n_lists: int) -> Any:
    """One row over all listed items: counts by brand, and the greatest rise of the share of lists that have an item."""
    listed = inputs["item_index"].select("item_id", "item_idx").join(_n_lists(inputs["candidates"], "n"), "item_id")
    engaged = inputs["interactions"].where(F.col("n_events") > 0).select("item_idx", F.lit(True).alias("engaged"))
    shown = shown_items(inputs, context.config, context.cutoff).select("item_id", F.lit(True).alias("shown"))
    known = listed.join(engaged.distinct(), on="item_idx", how="left").join(shown, on="item_id", how="left")
    known = known.join(_jumps(inputs, n_lists), on="item_id", how="left")
    by_brand = (
        known.join(inputs["items"].select("item_id", "brand"), on="item_id", how="left")
        .groupBy("brand")
        .agg(
            F.sum("n").alias("n"),
            F.count(F.lit(1)).alias("n_items"),
            F.sum(F.when(F.col("engaged").isNull(), F.col("n"))).alias("n_never"),
            F.count("engaged").alias("n_engaged"),
            F.count(F.when(F.col("shown").isNull(), 1)).alias("n_unavailable"),
            F.max(F.when(F.col("shown").isNull(), F.col("item_id"))).alias("unavailable"),
            F.max(F.struct("jump", "item_id")).alias("jump"),
        )
    )
    branded = F.col("brand").isNotNull()
    return by_brand.agg(
        F.coalesce(F.sum("n"), F.lit(0)).alias("n_listed"),
        F.coalesce(F.sum("n_items"), F.lit(0)).alias("n_items"),
        F.coalesce(F.sum("n_unavailable"), F.lit(0)).alias("n_unavailable"),
        F.max("unavailable").alias("unavailable"),
        (F.coalesce(F.sum("n_never"), F.lit(0)) / F.sum("n")).alias("share_never"),
        F.coalesce(F.sum("n_engaged"), F.lit(0)).alias("n_engaged"),
        F.count(F.when(branded, 1)).alias("n_brands"),
        (F.max(F.when(branded, F.col("n"))) / F.sum("n")).alias("brand_share"),
        F.max_by("brand", F.when(branded, F.col("n"))).alias("brand"),
        F.max("jump")["jump"].alias("jump"),
        F.max("jump")["item_id"].alias("jumped"),
    ).first()


def _jumps(inputs: dict[str, DataFrame], n_lists: int) -> DataFrame:
    """item_id and jump: the rise of the share of lists that have the item in their first places, null if not judged.

    Items in the lists for everybody, or for a segment, may enter all lists overnight: they are what sells.  At the end
    of lists an item comes and goes with its neighbours there.  Explored items come and go by design.
    """
    first = F.filter(F.slice("items", 1, _FIRST_PLACES), lambda item: ~_is_explored(item)).alias("items")
    now = _n_lists(inputs["candidates"].select(first), "n_first")
    before, n_before = _n_lists(_base(inputs).select(first), "n_before"), _base(inputs).count()
    shared = _n_lists(inputs["fallback_candidates"], "n_shared")
    rise = F.col("n_first") / F.lit(max(1, n_lists)) - F.coalesce("n_before", F.lit(0)) / F.lit(max(1, n_before))
    jump = F.when(F.col("n_shared").isNull(), rise) if n_before else F.lit(None).cast("double")
    found = now.join(before, on="item_id", how="left").join(shared, on="item_id", how="left")
    return found.select("item_id", jump.alias("jump"))


def _n_lists(candidates: DataFrame, name: str) -> DataFrame:
    """item_id and the number of lists that have it."""
    items = candidates.select(F.explode("items.item_id").alias("item_id"))
    return items.groupBy("item_id").agg(F.count(F.lit(1)).alias(name))


def _base(inputs: dict[str, DataFrame]) -> DataFrame:
    """The lists of the newest bundle of an earlier date; none if there is none."""
    return inputs.get("base_candidates", inputs["candidates"].limit(0))


def _is_explored(item: Column) -> Column:
    return F.exists(item["sources"], lambda one: one["source"] == EXPLORE)
