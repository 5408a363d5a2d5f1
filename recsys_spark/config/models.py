"""Settings sections of models: item-item CF, ALS, the two-tower model, and the ANN index.

Owns: their types and bounds; their meaning and defaults stand in conf/base.toml.
"""

from typing import Annotated, Literal

from pydantic import Field

from recsys_spark.config.types import NonNegativeFloat, PositiveDays, PositiveFloat, PositiveInt, Ratio, Section


class SimilaritySettings(Section):
    """How nearest items are computed, and how much memory it may take; formulas: `item_cf.kernels.similarity`."""

    similarity: Literal["cosine", "jaccard", "conditional", "pearson", "rp3beta", "ridge"]
    alpha: NonNegativeFloat
    beta: NonNegativeFloat
    gamma: NonNegativeFloat
    ridge: PositiveFloat
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
    unobserved: Ratio
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


class TwoTower(Section):
    """The inputs of the two towers, and how they are trained."""

    user_features: list[str]
    item_features: list[str]
    item_words: list[str]
    item_history: list[str]
    dim: Annotated[int, Field(ge=2, le=4096)]
    hidden: PositiveInt
    normalize: bool
    temperature: PositiveFloat
    learn_temperature: bool
    n_buckets: Annotated[int, Field(ge=16, le=1 << 26)]
    max_id_buckets: Annotated[int, Field(ge=16, le=1 << 26)]
    id_dropout: Ratio
    history_items: PositiveInt
    half_life_items: PositiveFloat
    loss: Literal["softmax", "bce", "bpr", "triplet"]
    log_q: bool
    margin: PositiveFloat
    negatives: PositiveInt
    hard_share: Ratio
    random_negatives: Literal["uniform", "popularity"]
    half_life_days: NonNegativeFloat
    training_days: PositiveDays
    max_items_per_user: PositiveInt
    epochs: PositiveInt
    patience: PositiveInt
    validation_days: PositiveDays
    validation_share: Annotated[float, Field(ge=0, le=0.5)]
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: PositiveFloat
    warm_start: bool
    processes: PositiveInt
    threads: PositiveInt
    device: Literal["auto", "cpu", "cuda"]
    shard_bytes: Annotated[int, Field(ge=1 << 20)]

    @property
    def n_hard(self) -> int:
        """Hard negatives of each example."""
        return round(self.negatives * self.hard_share)


class Ann(Section):
    """How the index over items' embeddings is built and searched."""

    factory: str
    memory_bytes: PositiveInt
    items_per_shard: PositiveInt
    partition_by: str
    rerank: PositiveInt
    recall_users: Annotated[int, Field(ge=1, le=10_000)]
    min_recall: Ratio
    train_threads: PositiveInt
    search: Literal["exact", "ann", "auto"]
    exact_below: PositiveInt
