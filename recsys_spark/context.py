"""Context of a step: settings, date, seed and session of its run, and all else that it is given besides its inputs.

Owns: `Context`.  Made by the runner, read by every step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.ingest.rules import Rule
from recsys_spark.ingest.values import midnight
from recsys_spark.warehouse.publish_row import PublishRow
from recsys_spark.warehouse.scratch import Scratch, scratch_of


@dataclass(frozen=True)
class Context:
    """The settings, the date and the seed of a run; `figures` collects what a step measured.

    warnings: what whoever runs the step should know, in whole sentences.
    tell: takes how far a long step is, for whoever watches: done and of, and further figures to show.
    current: the head of `publishes` when the step began, None before the first publish.
    rules: those of the date, in force or not.
    done: rows of `run_steps` by step, of those that the run has completed.
    """

    config: Config
    day: date
    run_id: str
    seed: int
    spark: SparkSession
    figures: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    tell: Callable[[dict[str, float]], None] = lambda _: None
    current: PublishRow | None = None
    rules: tuple[Rule, ...] = ()
    done: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def scratch(self, step: str) -> Scratch:
        """Where `step` keeps what must outlive a kill; dropped once the step is recorded."""
        return scratch_of(self.config.root, self.run_id, step)

    @property
    def cutoff(self) -> datetime:
        """D 00:00 UTC; nothing at or after it may change an output of the run."""
        return midnight(self.day)
