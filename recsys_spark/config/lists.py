"""Settings sections on lists: candidates, validation, hindsight, audit and publish.

Owns: their types and bounds; defaults and meanings stand in conf/base.toml.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from recsys_spark.config.types import (
    MAX_DAYS,
    Days,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    PartialWeight,
    PositiveDays,
    PositiveFloat,
    PositiveInt,
    Ratio,
    Section,
)

MAIN = "main"  # the variant of users who are in no other


class DiversitySettings(Section):
    """How lists are diversified."""

    mmr_weight: PartialWeight
    category_cap: NonNegativeInt
    brand_cap: NonNegativeInt
    calibration_weight: PartialWeight
    popularity_damping: NonNegativeFloat


class Explore(Section):
    """How lists explore fresh items."""

    share: PartialWeight
    fresh_days: PositiveDays
    mode: Literal["thompson", "epsilon"]
    prior_showings: PositiveFloat
    quality_floor: NonNegativeFloat


class Variant(Section):
    """Settings that differ for a share of the users; all others are as in the main variant."""

    share: Annotated[float, Field(gt=0, le=1)]
    method: Literal["rrf", "scores"] | None = None
    source_weights: dict[str, NonNegativeFloat] | None = None
    diversity: dict[str, int | float] | None = None
    explore_share: PartialWeight | None = None


class Candidates(Section):
    """How candidates are blended, and how many are stored."""

    k: PositiveInt
    seen: Literal["exclude", "keep", "repeat_after_days"]
    repeat_after_days: PositiveDays
    available_within_days: Days
    active_within_days: Days
    method: Literal["rrf", "scores"]
    rrf_k: PositiveInt
    source_weights: dict[str, NonNegativeFloat]
    score_scaling: Literal["background", "capped"]
    score_weights: dict[str, NonNegativeFloat]
    diversity: DiversitySettings
    explore: Explore
    variants: dict[Name, Variant]

    @model_validator(mode="after")
    def _check_variants(self) -> "Candidates":
        if MAIN in self.variants:
            raise ValueError(f"variants: {MAIN} is the name of what all other users get; choose another")
        total = sum(one.share for one in self.variants.values())
        if total > 1 + 1e-9:
            raise ValueError(f"variants: shares of at most 1 together, not {total:g}")
        self.by_variant()
        return self

    def by_variant(self) -> dict[str, "Candidates"]:
        """The settings of every variant by name, the main one first."""
        settings = {MAIN: self.model_copy(update={"variants": {}})}
        for name, one in sorted(self.variants.items()):
            given: dict[str, object] = {
                name: getattr(one, name) for name in ("method", "source_weights") if getattr(one, name) is not None
            }
            if one.diversity is not None:
                given["diversity"] = DiversitySettings.model_validate(self.diversity.model_dump() | one.diversity)
            if one.explore_share is not None:
                given["explore"] = self.explore.model_copy(update={"share": one.explore_share})
            settings[name] = settings[MAIN].model_copy(update=given)
        return settings


class Validation(Section):
    """How the run chooses the settings that are `auto`.

    fallback: the value of each where nothing can be chosen.  auto: their dotted names, in the order of `fallback`.
    """

    every_days: NonNegativeInt
    users: PositiveInt
    min_users: PositiveInt
    max_pairs: PositiveInt
    window_days: PositiveDays
    fallback: dict[str, Any]
    auto: list[str]


class Hindsight(Section):
    """How published lists are judged afterwards."""

    window_days: Days
    ranking_examples: bool
    drawn_examples: NonNegativeInt


class Audit(Section):
    """Bounds of the gates."""

    max_days_without_events: PositiveInt
    weekday_weeks: NonNegativeInt
    max_days_without_run: NonNegativeInt
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
    keep_examples: PositiveInt
    keep_failed: NonNegativeInt
