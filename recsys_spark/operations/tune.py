"""Hyperparameter search of `recsys-spark tune`: a wide grid judged on held-out events, written as a settings file.

Owns: that search, and its file.  It is the validation of a run with a wider grid: nothing from the date on is read, and
users who choose settings judge nothing else.  A run does not choose again what the file sets.
"""

import json
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.config.choices import source_of, value_of, with_settings
from recsys_spark.config.schema import Config, derive_seed
from recsys_spark.config.settings_text import Setting, settings_text
from recsys_spark.context import Context
from recsys_spark.errors import ArgumentError
from recsys_spark.features.declared import declared_tables
from recsys_spark.ingest.clock import known_clock
from recsys_spark.pipeline.inputs import as_of
from recsys_spark.pipeline.runner import code_of
from recsys_spark.plan import PINNED, step
from recsys_spark.signals.interactions import fit_interactions
from recsys_spark.validation.choose import choose
from recsys_spark.validation.grid import WIDE, Grid
from recsys_spark.validation.held_out import folds, held_out_words, others
from recsys_spark.validation.tried import BESIDE, Chosen
from recsys_spark.warehouse.run_files import days_with_rows
from recsys_spark.warehouse.spark_tables import read_table

_HEAD = (
    "Written by `recsys-spark tune`: settings that found most of {held_out}. Lay them over your own file, or copy what "
    "you want of them; a run does not choose anew what a file says. Recall of the blend there: {recall}."
)


def tune(
    spark: SparkSession, config: Config, day: date, tell: Callable[[dict[str, float]], None], grid: Grid = WIDE
) -> tuple[Chosen, str]:
    """What the search chose of the settings that are auto, and what was held out, in words.

    Raises ArgumentError if no setting is auto, or too few users judge.
    """
    config = known_clock(config)
    if not config.validation.auto:
        raise ArgumentError("tune: expected settings that are auto, got none; set those to auto that are to be tuned")
    context = Context(config, day, "tune", derive_seed(config.run.seed, "tune", day), spark, tell=tell)
    tables = declared_tables()
    inputs = {name: as_of(read_table(spark, config.root, tables[name]), tables[name], context) for name in PINNED}
    inputs |= {name: frame.persist() for name, frame in code_of(step("index")).run(inputs, context).items()}
    first = days_with_rows(config.root, "events")[0]
    found = list(folds(inputs, context, first, fit_interactions(inputs, context).count()))
    n_judged = sum(len(one.judged.log.judged) for one in found)
    if n_judged < config.validation.min_users:
        raise ArgumentError(
            f"tune: expected at least {config.validation.min_users} users to judge by, got {n_judged}; lower "
            "[validation] min_users, or wait for more events"
        )
    judged, auto = [one.judged for one in found], frozenset(config.validation.auto)
    made = choose(judged, config, auto, others(found, config), tell, grid)
    _write_out(made, config)
    return made, held_out_words(found, context, first)


def _write_out(made: Chosen, config: Config) -> None:
    """Adds settings that were best as configured, so that a run chooses nothing of a source that was tried."""
    changed = with_settings(config, made.settings)
    tried = {one.kind.removesuffix(BESIDE) for one in made.tried if one.chosen}
    for name in config.validation.auto:
        if source_of(name) in tried:
            made.settings.setdefault(name, value_of(changed, name))


def tuned_text(made: Chosen, held_out: str) -> str:
    """The settings file."""
    recalls = [f"{one.recall.mean():.4f}" for one in made.tried if one.kind == "blend" and one.chosen]
    recall = recalls[0] if recalls else "not judged, candidates.method is not auto"
    sections: dict[str, list[Setting]] = {}
    for name, value in sorted(made.settings.items()):
        section, _, key = name.rpartition(".")
        if isinstance(value, Mapping):
            sections[name] = [Setting(json.dumps(one), number) for one, number in value.items()]
        else:
            sections.setdefault(section, []).append(Setting(key, value, _why(made, name)))
    return settings_text(_HEAD.format(held_out=held_out, recall=recall), sections, [])


def _why(made: Chosen, name: str) -> str:
    """The recall of the trial that the setting came from, beside that of the first trial of its source."""
    for one in made.tried:
        if one.chosen and name in one.settings and one.kind != "blend":
            first = next(other for other in made.tried if other.kind == one.kind)
            if one.kind.endswith(BESIDE):
                return f"the blend with it finds {one.recall.mean():.4f}, with {first.name} {first.recall.mean():.4f}"
            return f"{one.kind} finds {one.recall.mean():.4f}, as configured {first.recall.mean():.4f}"
    return ""


def write_tuned(text: str, out: Path) -> None:
    """Writes the file; ArgumentError if it exists or cannot be written."""
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as err:
        raise ArgumentError(f"--out: expected a file that is not there yet, got {out} ({err.strerror})") from err
