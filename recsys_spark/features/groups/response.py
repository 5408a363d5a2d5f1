"""Exposure features of users: how many items a user was shown, and the conversion.

Owns: the user features of exposures.
Rows: `showings` (see `signals.exposures.shown_pairs`).
"""

from datetime import datetime
from typing import TYPE_CHECKING

from recsys_spark.config.schema import Config
from recsys_spark.features.declared import RECENT_DAYS, Feature, Group, RowSource, aggregate_group, window_text

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

GROUP = Group(
    table="user_features",
    features=(
        Feature(
            f"n_exposures_{RECENT_DAYS}d",
            "long",
            f"items shown {window_text(RECENT_DAYS)}, each time counted",
            "showings",
            "sum(n_exposures)",
            check=f"n_exposures_{RECENT_DAYS}d >= 0",
        ),
        Feature(
            f"conversion_{RECENT_DAYS}d",
            "double",
            f"share of the different items shown {window_text(RECENT_DAYS)} that the user engaged with at "
            "or after their first showing in them and did not return",
            "showings",
            "count_if(converted) / count(*)",
            unit="0 to 1",
            null_when="no showing in them",
            check=f"conversion_{RECENT_DAYS}d BETWEEN 0 AND 1",
        ),
    ),
)


def compute(index: "DataFrame", inputs: "dict[str, DataFrame]", config: Config, cutoff: datetime) -> "DataFrame":
    """`index` with the group's features of every user as of `cutoff`."""
    from recsys_spark.signals.exposures import shown_pairs

    rows = shown_pairs(inputs["exposures"], inputs["interactions"], cutoff, RECENT_DAYS)
    return aggregate_group(index, GROUP, {"showings": RowSource(rows, "user_idx")})
