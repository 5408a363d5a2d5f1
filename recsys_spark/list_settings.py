"""The sections on lists: how they are made, judged, let through and kept.

Owns: their types and bounds; defaults and meanings stand in conf/base.toml.  Called by `config`.
"""

from typing import Annotated, Literal

from pydantic import Field

from recsys_spark.setting_types import (
    MAX_DAYS,
    Days,
    NonNegativeFloat,
    NonNegativeInt,
    PartialWeight,
    PositiveDays,
    PositiveFloat,
    PositiveInt,
    Ratio,
    Section,
)


class DiversitySettings(Section):
    """What lists give up relevance for."""

    mmr_weight: PartialWeight
    category_cap: NonNegativeInt
    brand_cap: NonNegativeInt
    calibration_weight: PartialWeight
    popularity_damping: NonNegativeFloat


class Candidates(Section):
    """What is blended and stored."""

    k: PositiveInt
    seen: Literal["exclude", "keep", "repeat_after_days"]
    repeat_after_days: PositiveDays
    available_within_days: Days
    active_within_days: Days
    method: Literal["rrf", "learned"]
    rrf_k: PositiveInt
    learn_runs: PositiveInt
    learn_users: PositiveInt
    learn_depth: PositiveInt
    source_weights: dict[str, NonNegativeFloat]
    diversity: DiversitySettings


class Hindsight(Section):
    """How published lists are judged afterwards."""

    window_days: Days


class Audit(Section):
    """Bounds of the gates."""

    max_days_without_events: PositiveInt
    weekday_weeks: NonNegativeInt
    min_coverage: Ratio
    min_volume_ratio: NonNegativeFloat
    max_volume_ratio: PositiveFloat
    max_top_item_share: Ratio
    max_fallback_share: Ratio
    min_overlap: Ratio
    max_item_jump: Ratio
    max_repeated_lists: Ratio
    max_never_engaged: Ratio
    max_one_brand: Ratio
    min_embedding_cosine: Ratio


class Publish(Section):
    """How long bundles live."""

    grace_hours: Annotated[int, Field(ge=48, le=24 * MAX_DAYS)]
    keep_published: PositiveInt
    keep_failed: NonNegativeInt
