"""Settings of what is fitted: similarities, and factors.

Owns: their types and bounds; their meaning and defaults stand in conf/base.toml.  Called by `config`, and by the
adapters that fit.
"""

from typing import Annotated, Literal

from pydantic import Field

from recsys_spark.setting_types import NonNegativeFloat, PositiveFloat, PositiveInt, Ratio, Section


class SimilaritySettings(Section):
    """What near means, and what finding it may take; the formulas stand in `recsys_spark.kernels.item_cf`."""

    similarity: Literal["cosine", "jaccard", "conditional", "pearson", "rp3beta"]
    alpha: NonNegativeFloat
    beta: NonNegativeFloat
    shrinkage: NonNegativeFloat
    min_co_occurrence: PositiveInt
    num_neighbors: PositiveInt
    block_bytes: Annotated[int, Field(ge=1 << 20)]


class ItemCf(SimilaritySettings):
    """How related items are found."""

    max_items_per_user: PositiveInt


class Als(Section):
    """How the factors of users and items are fitted."""

    factors: Annotated[int, Field(ge=1, le=4096)]
    alpha: PositiveFloat
    regularization: NonNegativeFloat
    nu: Ratio
    half_life_days: NonNegativeFloat
    iterations: PositiveInt
    tolerance: NonNegativeFloat
    warm_start: bool
    min_items_per_user: PositiveInt
    min_users_per_item: PositiveInt
    user_attributes: list[str]
    item_attributes: list[str]
    attribute_weight: PositiveFloat
    exchange: Literal["auto", "local", "broadcast", "shuffle"]
    broadcast_bytes: PositiveInt
    block_bytes: Annotated[int, Field(ge=1 << 20)]
