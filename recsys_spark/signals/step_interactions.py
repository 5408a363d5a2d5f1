"""Turns events into one weight per user and item, and impressions into exposures.

Owns: the bound on bots, the sum of weights, dislikes, the figures of the day's matrix.  Events are aggregated under
their string ids first and given indices after, so that a user with very many events is one short row by the time of the
joins.
"""

from pyspark.sql import DataFrame

from recsys_spark.context import Context
from recsys_spark.signals.interactions import fit_density, fit_exposures, fit_interactions


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`interactions` and `exposures`.

    Figures: n_capped_user_days, n_anonymous (events in the window without a user), n_users and n_items with at least
    one interaction, n_interactions, density (n_interactions / (n_users * n_items), 0 if there is none).
    """
    interactions = fit_interactions(inputs, context)
    fit_density(interactions, context)
    return {"interactions": interactions, "exposures": fit_exposures(inputs, context)}
