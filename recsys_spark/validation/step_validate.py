"""Chooses the settings that are `auto`, of sources and of the blend, by their recall on held-out events.

Owns: when choices are made anew, and how they are stored.  Later steps get the chosen settings
(`config.choices.as_chosen`).
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
from pyspark.sql import DataFrame

from recsys_spark.config.choices import ALL, Settings, with_settings
from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.validation.bounds import bounded_settings
from recsys_spark.validation.choose import choose
from recsys_spark.validation.grid import USUAL
from recsys_spark.validation.held_out import folds, held_out_words, others
from recsys_spark.validation.tried import Chosen, Earlier, Tried
from recsys_spark.warehouse.run_files import days_with_rows
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import CHOICES

_log = logging.getLogger(__name__)

_GROWN = 1.5  # factor by which the log may grow, or shrink, before choices are made anew

_NORMAL = 1.96  # half width of a 95 % interval, in standard errors


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`choices`: one row a trial, and one with all chosen settings, {} where nothing could be chosen.

    Figures: n_trials (0 where choices are reused), n_judged, n_folds; where judged users went on to items that nobody
    had had, n_new such users, and recall_of_new, the recall of the chosen blend on these items.
    """
    config, figures = context.config, context.done["interactions"]["figures"]
    n_pairs, hashed = int(figures["n_interactions"]), _hash(config)
    earlier = _earlier(inputs, hashed)
    again = earlier if _still_holds(earlier, context, n_pairs) else []
    if again and _fits(again, inputs, config):
        _log.info("step=validate phase=reuse made_on=%s", again[0]["made_on"])
        context.figures.update(n_trials=0.0, age_days=float((context.day - again[0]["made_on"]).days))
        return {"choices": _frame(again, context)}
    why, made = _reason_not_to(config, figures), Chosen()
    # A setting that the run may choose must not make it fail, however large the catalogue, also if nothing is tried.
    n_items = inputs["item_index"].count()
    smaller = bounded_settings(config, n_items)
    if smaller:
        _log.info("step=validate phase=bounds settings=%s", smaller)
        config = with_settings(config, smaller)
        context = replace(context, config=config)
    held_out = ""
    if not why:
        first = days_with_rows(config.root, "events")[0]
        found = list(folds(inputs, context, first, n_pairs))
        n_judged = sum(len(one.judged.log.judged) for one in found)
        context.figures.update(n_folds=float(len(found)), n_judged=float(n_judged))
        why, held_out = _too_few(n_judged, config), held_out_words(found, context, first)
        if not why:
            _log.info("step=validate phase=try n_folds=%d n_judged=%d %s", len(found), n_judged, held_out)
            judged, auto = [one.judged for one in found], frozenset(config.validation.auto)
            fitted, before = others(found, config), _choice_of(earlier, config, n_items)
            made = choose(judged, config, auto, fitted, context.tell, USUAL, before)
    context.figures.update(made.figures, n_trials=float(len(made.tried)))
    if why:
        _log.info("step=validate phase=none why=%r", why)
    same = {"held_out": held_out, "made_on": context.day, "n_pairs": n_pairs, "config_hash": hashed}
    rows = [_row(one) | same for one in made.tried]
    rows.append(_row(Tried(ALL, "all", smaller | made.settings, np.zeros(0), True, why)) | same)
    return {"choices": _frame(rows, context)}


def _reason_not_to(config: Config, figures: Mapping[str, float]) -> str:
    """Why nothing is tried; empty if trials are made."""
    if not config.validation.auto:
        return "no setting is auto"
    if not config.validation.every_days:
        return "[validation] every_days is 0"
    return _too_few(int(figures["n_users"]), config)


def _too_few(n_users: int, config: Config) -> str:
    least = config.validation.min_users
    return f"{n_users} users to judge by, [validation] min_users is {least}" if n_users < least else ""


def _hash(config: Config) -> str:
    """Hash of all settings that a choice depends on; how long a choice holds is not among them."""
    names = ("events", "interactions", "item_cf", "als", "sources", "candidates", "validation")
    dumped = config.model_dump(mode="json", include=set(names))
    del dumped["validation"]["every_days"]
    return sha256(json.dumps(dumped, sort_keys=True).encode()).hexdigest()


def _earlier(inputs: Mapping[str, DataFrame], hashed: str) -> list[dict[str, Any]]:
    """The rows of the base run's choices, if any were made, under the same settings."""
    base = inputs.get("base_choices")
    rows = [row.asDict() for row in base.collect()] if base is not None else []
    made = next((row for row in rows if row["kind"] == ALL), None)
    return [] if made is None or made["config_hash"] != hashed or made["why"] else rows


def _choice_of(rows: list[dict[str, Any]], config: Config, n_items: int) -> Earlier | None:
    """The choice that the rows hold, within the bounds of today's catalogue."""
    if not rows:
        return None
    settings = _settings(rows)
    smaller = bounded_settings(with_settings(config, settings), n_items)
    settings |= {name: value for name, value in smaller.items() if name != "sources.enabled"}
    tried = frozenset(row["kind"] for row in rows if row["recall"] is not None)
    return Earlier(settings, tried, frozenset(row["kind"] for row in rows if row["name"] == "left out"))


def _still_holds(rows: list[dict[str, Any]], context: Context, n_pairs: int) -> bool:
    """Whether the choices are young enough, and the log has about the size that it had."""
    if not rows:
        return False
    made = rows[0]  # all rows have the same date and size
    grown = n_pairs / max(1, made["n_pairs"])
    age = (context.day - made["made_on"]).days
    return bool(age < context.config.validation.every_days and 1 / _GROWN <= grown <= _GROWN)


def _settings(rows: list[dict[str, Any]]) -> Settings:
    found: Settings = next(json.loads(row["settings"]) for row in rows if row["kind"] == ALL)
    return found


def _fits(rows: list[dict[str, Any]], inputs: Mapping[str, DataFrame], config: Config) -> bool:
    """Whether the choice still keeps the bounds of what is sent to workers: the catalogue may have grown past them."""
    return not bounded_settings(with_settings(config, _settings(rows)), inputs["item_index"].count())


def _row(one: Tried) -> dict[str, Any]:
    n, recall, low, high = len(one.recall), None, None, None
    if n:
        recall = float(one.recall.mean())
        width = _NORMAL * float(one.recall.std() / np.sqrt(n))
        low, high = recall - width, recall + width
    return {
        "kind": one.kind,
        "name": one.name,
        "settings": json.dumps(one.settings, sort_keys=True),
        "recall": recall,
        "low": low,
        "high": high,
        "n_users": n,
        "chosen": one.chosen,
        "why": one.why,
    }


def _frame(rows: list[dict[str, Any]], context: Context) -> DataFrame:
    schema = spark_schema(CHOICES, ("run_id",))
    return context.spark.createDataFrame([tuple(row[name] for name in schema.names) for row in rows], schema)
