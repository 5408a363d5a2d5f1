"""Exposure metrics, where the log has impressions: click rate, conversion and value, plain and by IPS, by variant.

Owns: these figures and their sums.  Every figure is a ratio of sums over users with the draws of `numeric.bootstrap`,
made where the users are, so that variants compare in pairs with all other figures.

A showing is a user and an item, a click is a showing that was followed by an engagement.  `ctr` is clicks per showing;
`conversion`, of the users who were shown anything, the share that clicked; `value`, per such user, the value of all
engagements in the window with clicked items.  `ctr_ips` and `value_ips` weigh every showing by 1 / its logged
propensity: what a policy that shows every item alike would have found (Swaminathan, Joachims 2015, self-normalised);
showings without a propensity are left out.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.evaluation.kernels.figures import ALL, Figure
from recsys_spark.numeric.bootstrap import RESAMPLES, Tally, draw, user_keys
from recsys_spark.signals.event_weights import exact_sum
from recsys_spark.signals.exposures import inverse, was_followed

_CLIP = 100.0  # a showing counts for at most this many
_BLOCK_USERS = 4096

_SUMS = "metric_group string, metric string, n array<double>, total array<double>"
_PER_USER = ("n_shown", "n_clicked", "value", "weight", "weighted_clicks", "weighted_value", "n_weighed")


def exposure_figures(
    pairs: DataFrame, variants: DataFrame, names: Sequence[str], list_name: str, seed: int
) -> dict[Figure, Tally]:
    """Figures of `list_name` with k = 0, of all users and of the variants `names`; none if nothing was shown.

    pairs: as `exposed_pairs` gives them.  variants: user_id and variant.
    """
    shown = pairs.where(F.col("shown_at").isNotNull())
    clicked, weight = was_followed(), inverse(F.col("propensity"), _CLIP)
    per_user = shown.groupBy("user_id").agg(
        F.count(F.lit(1)).alias("n_shown"),
        F.count_if(clicked).alias("n_clicked"),
        exact_sum(F.when(clicked, F.col("value"))).alias("value"),
        exact_sum(weight).alias("weight"),
        exact_sum(F.when(clicked, weight)).alias("weighted_clicks"),
        exact_sum(F.when(clicked, weight * F.col("value"))).alias("weighted_value"),
        F.count(weight).alias("n_weighed"),
    )
    rows = per_user.na.fill(0.0).join(variants, on="user_id", how="left")
    parts = rows.select("user_id", "variant", *[F.col(name).cast("double") for name in _PER_USER])
    sums: dict[Figure, Tally] = {}
    for row in parts.mapInArrow(_summer(tuple(names), seed), _SUMS).toArrow().to_pylist():
        figure = Figure(list_name, row["metric_group"], row["metric"], 0)
        one = Tally(np.array(row["n"]), np.array(row["total"]))
        sums[figure] = sums[figure] + one if figure in sums else one
    return sums


def _summer(names: tuple[str, ...], seed: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Sums of a partition's users, one row per group and metric."""

    def add_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[tuple[str, str], Tally] = {}
        for batch in batches:
            for first in range(0, batch.num_rows, _BLOCK_USERS):
                for key, one in _block_sums(batch.slice(first, _BLOCK_USERS), names, seed).items():
                    sums[key] = sums[key] + one if key in sums else one
        groups, metrics = ([key[at] for key in sums] for at in (0, 1))
        columns = {"metric_group": groups, "metric": metrics}
        columns |= {name: [getattr(one, name).tolist() for one in sums.values()] for name in ("n", "total")}
        doubles = pa.list_(pa.float64())
        schema = pa.schema({"metric_group": pa.string(), "metric": pa.string(), "n": doubles, "total": doubles})
        yield pa.RecordBatch.from_pydict(columns, schema)

    return add_up


def _block_sums(block: pa.RecordBatch, names: tuple[str, ...], seed: int) -> dict[tuple[str, str], Tally]:
    value = {name: block[name].to_numpy(zero_copy_only=False) for name in _PER_USER}
    draws = draw(user_keys(block["user_id"].to_numpy(zero_copy_only=False)), seed, RESAMPLES)
    # Per user as `value` is: the mean weight of a showing, for the part of the showings that are weighed.
    shown, mean_weight = value["n_shown"] > 0, value["weight"] / np.maximum(value["n_shown"], 1)
    parts = {
        "ctr": (value["n_shown"], value["n_clicked"]),
        "conversion": (shown.astype(float), (value["n_clicked"] > 0).astype(float)),
        "value": (shown.astype(float), value["value"]),
        "ctr_ips": (value["weight"], value["weighted_clicks"]),
        "value_ips": (mean_weight, value["weighted_value"]),
    }
    groups = {ALL: np.ones(block.num_rows, bool)}
    for name in names:
        groups[f"users/variant={name}"] = pc.fill_null(pc.equal(block["variant"], name), False).to_numpy(
            zero_copy_only=False
        )
    return {
        (group, metric): Tally((under * members) @ draws, (over * members) @ draws)
        for group, members in groups.items()
        for metric, (under, over) in parts.items()
    }
