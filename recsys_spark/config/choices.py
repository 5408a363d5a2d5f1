"""Choices of a run: the settings that it chooses by itself, laid over those that it was given.

Owns: dotted names of settings, which settings a choice changes, and where choices are read.
"""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.config.schema import Config
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.run_files import list_run
from recsys_spark.warehouse.tables import CHOICES

Settings = dict[str, Any]  # dotted name of a setting: value

ALL = "settings"  # the kind of the row that has all that was chosen


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """`config` with other values of some settings; raises pydantic's ValidationError for an invalid value."""
    dumped = config.model_dump()
    for name, value in settings.items():
        *sections, last = name.split(".")
        section = dumped
        for key in sections:
            section = section[key]
        section[last] = value
    return Config.model_validate(dumped).remember_places(config.places)


def value_of(config: Config, name: str) -> Any:
    """The value of a setting by its dotted name."""
    value: Any = config.model_dump()
    for key in name.split("."):
        value = value[key]
    return value


def source_of(name: str) -> str:
    """The source that a setting (a dotted name) belongs to; its section if it belongs to no source."""
    return name.removeprefix("sources.").partition(".")[0]


def read_choices(root: Location, run_id: str) -> list[dict[str, Any]]:
    """The rows of `choices` of a run, without Spark; none if it has none, or was made by an earlier version."""
    folder = table_path(root, CHOICES.name)
    if not folder.exists():
        return []
    run, parts = list_run(folder, CHOICES.name, run_id, None), []
    for file in run.files:
        with run.reading(file, "its rows") as source:
            parts.append(pq.read_table(source))
    return pa.concat_tables(parts).to_pylist() if parts else []


def choices_note(rows: list[dict[str, Any]], day: date) -> list[str]:
    """The line on its choices that a run prints; nothing if there are none.  day: date of the run."""
    whole = next((row for row in rows if row["kind"] == ALL), None)
    if whole is None:
        return []
    if whole["why"]:
        return [f"settings that are auto have their fallbacks: {whole['why']}"]
    made = "chosen" if whole["made_on"] == day else f"as chosen on {whole['made_on']}"
    ways = [row for row in rows if row["kind"] == "blend"]
    found = [f"{row['name']} finds {row['recall']:.4f}" for row in ways if row["chosen"]]
    alone = max((row for row in ways if not row["chosen"]), key=_recall, default=None)
    found += [f"next to it {alone['name']} {alone['recall']:.4f}"] if alone else []
    for what in ("left out", "not tried"):
        names = [row["kind"] for row in rows if row["name"] == what]
        found += [f"{what}: {', '.join(names)}"] if names else []
    said = "; ".join(found) or "settings of sources"
    return [f"{made} by {whole['held_out']}: {said} (mean of recall@10 and @20; see explain)"]


def shape_note(figures: Mapping[str, float], config: Config) -> str:
    """The line on its log and sources that a run prints.  figures: of the step interactions."""
    return (
        f"{figures['n_users']:,.0f} users had {figures['n_items']:,.0f} items, {figures['n_interactions']:,.0f} pairs "
        f"(density {figures['density']:.2g}), {config.events.clock_words}; "
        f"sources that are tried: {', '.join(config.sources.enabled)}"
    )


def _recall(row: Mapping[str, Any]) -> float:
    return float(row["recall"] or 0.0)


def as_chosen(config: Config, run_id: str) -> Config:
    """The settings that the run was made with: what it chose, laid over what it was given."""
    rows = [row for row in read_choices(config.root, run_id) if row["kind"] == ALL]
    auto = set(config.validation.auto)
    chosen: Settings = json.loads(rows[0]["settings"]) if rows else {}
    settings = {name: value for name, value in chosen.items() if name in auto or name.startswith(_WITH_METHOD)}
    return with_settings(config, settings) if settings else config


# Settings that are chosen together with [candidates] method.
_WITH_METHOD = "candidates.score_"
