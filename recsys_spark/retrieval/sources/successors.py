"""Source `successors`: what follows a user's last items, by directed transitions over several places.

Owns: which events are a history, and how far back it counts.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from recsys_spark.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from recsys_spark.retrieval.declared import SourceContext, SourceParams

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.retrieval.user_lists import Personal

READS = ("events", "items", "item_index", "user_index")


class Params(SourceParams):
    """Settings of `[sources.successors]`; their meaning and defaults stand in conf/base.toml."""

    window: PositiveInt
    window_half_life: PositiveFloat
    alpha: NonNegativeFloat
    beta: NonNegativeFloat
    shrinkage: NonNegativeFloat
    num_successors: PositiveInt
    max_events_per_user: PositiveInt
    history_items: PositiveInt
    half_life_items: PositiveFloat
    block_bytes: PositiveInt
    max_items: PositiveInt


def generate(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "Personal":
    """One list per user with any history, `successors`: score_uj = sum over the last items i of weight x s_ij.

    Raises KernelError if the successors are too many to be sent to every worker.
    """
    import numpy as np

    from recsys_spark.retrieval.scorers import NewestPlaced, neighbor_model
    from recsys_spark.retrieval.user_lists import Personal
    from recsys_spark.sequence.kernels.successors import TransitionSettings
    from recsys_spark.sequence.successors import Limits, fit_successors
    from recsys_spark.signals.event_weights import is_positive, known_events
    from recsys_spark.signals.visibility import fit_shown_idx
    from recsys_spark.spark.broadcast import fit_lists

    n_users, n_items = inputs["user_index"].count(), inputs["item_index"].count()
    engaged = (
        known_events(inputs["events"], context.cutoff, context.config.interactions.window_days)
        .where(is_positive(context.config.events.types))
        .join(inputs["user_index"].select("user_id", "user_idx"), on="user_id", how="inner")
        .join(inputs["item_index"].select("item_id", "item_idx"), on="item_id", how="inner")
    )
    following = TransitionSettings(
        params.window,
        params.window_half_life,
        params.alpha,
        params.beta,
        params.shrinkage,
        params.num_successors,
    )
    listed = np.zeros(n_items, bool)
    listed[fit_shown_idx(inputs, context.config, context.cutoff)] = True
    limits = Limits(params.max_events_per_user, params.block_bytes)
    lists = fit_successors(engaged, n_users, listed, following, limits)
    near = fit_lists(lists, n_items, "sources.successors.num_successors")
    history = NewestPlaced(n_items, params.history_items, params.half_life_items)
    return Personal(neighbor_model(near, history), params.max_items)
