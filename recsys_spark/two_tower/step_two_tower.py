"""Trains the two-tower model of the day, if a source uses it.

Owns: what is staged for it, what it starts from, and the card of the model.
"""

import json
import logging
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.errors import ConfigError, DamagedError
from recsys_spark.two_tower.dimensions import id_buckets, lacks_torch, uses_towers
from recsys_spark.two_tower.feature_columns import fit_inputs, item_columns, user_columns
from recsys_spark.two_tower.kernels.inputs import TowerInputs
from recsys_spark.two_tower.kernels.model_file import SUFFIX, load_model, pack_model, unpack
from recsys_spark.two_tower.training_job import Job, State, read_job
from recsys_spark.two_tower.training_launch import is_staged, train
from recsys_spark.two_tower.training_stage import histories, shown_not_engaged, stage_items, stage_users
from recsys_spark.warehouse.blobs import put_blob, read_blob
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TWO_TOWER_MODELS

_log = logging.getLogger(__name__)

_MICROS_PER_DAY = 86_400_000_000
_SCHEMA = spark_schema(TWO_TOWER_MODELS, without=("run_id",))


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`two_tower_models`, one row, or none if no enabled source asks the towers.

    Figures: n_epochs, best_epoch, loss, recall and ndcg (of validated users, -1: too few), warm (1: started from the
    base run's weights).
    """
    lacks = lacks_torch(context.config)
    if lacks:
        context.warnings.append(
            "two_tower: torch is not installed, so the day runs without towers; run `pip install "
            "'recsys-spark[towers]'`, or leave two_tower out of [sources] enabled"
        )
    if lacks or not uses_towers(context.config):
        return {"two_tower_models": context.spark.createDataFrame([], _SCHEMA)}
    scratch, settings = context.scratch("two_tower"), context.config.two_tower
    _check_history(context.config)
    data = _data(context)
    staged = {"settings": settings.model_dump(), "seed": context.seed, "data": data}
    if not is_staged(staged, scratch):
        scratch.drop()
        job = _stage(inputs, context, data)
        scratch.mark("job", job.as_json())
    state, weights = train(scratch, context.tell)
    return {"two_tower_models": _model_row(context, state, weights)}


def _check_history(config: Config) -> None:
    """Raises ConfigError if users would be embedded by shorter histories than the towers learnt from."""
    wanted, kept = config.two_tower.history_items, config.features.recent_items
    if wanted > kept:
        raise ConfigError(
            f"[two_tower] history_items: expected at most [features] recent_items, {kept}, got {wanted}; lower it, or "
            "raise the other"
        )


def _data(context: Context) -> dict[str, Any]:
    """What the model is trained on, by the hashes of its tables."""
    hashes: dict[str, str] = {}
    for row in context.done.values():
        hashes |= row["content_hashes"]
    names = ("interactions", "exposures", "user_features", "item_features", "item_index")
    return {"date": context.day.isoformat()} | {name: hashes[name] for name in names if name in hashes}


def _stage(inputs: dict[str, DataFrame], context: Context, data: dict[str, Any]) -> Job:
    """The job, with its shards and the weights that it starts from in the scratch."""
    settings, scratch = context.config.two_tower, context.scratch("two_tower")
    n_items = inputs["item_index"].count()
    users, items = user_columns(inputs, settings), item_columns(inputs, settings)
    n_ids = id_buckets(n_items, settings.max_id_buckets) if settings.id_dropout < 1 else 0
    user_inputs = fit_inputs(users, "user", settings.user_features, [], settings.n_buckets, 0)
    item_inputs = fit_inputs(
        items, "item", settings.item_features, settings.item_words, settings.n_buckets, n_ids, settings.item_history
    )
    entries = histories(inputs["interactions"], settings, context.cutoff)
    shown = shown_not_engaged(inputs["exposures"], inputs["interactions"], context.cutoff)
    n_shards = stage_users(entries, shown, users, user_inputs, settings.shard_bytes, scratch)
    n_item_shards = stage_items(items, n_items, item_inputs, settings.shard_bytes, scratch)
    split_time = int(context.cutoff.timestamp()) * 1_000_000 - settings.validation_days * _MICROS_PER_DAY
    start = _start(inputs, context, user_inputs, item_inputs)
    return Job(
        settings, context.seed, n_items, n_shards, n_item_shards, split_time, user_inputs, item_inputs, data, start
    )


def _start(inputs: dict[str, DataFrame], context: Context, user_inputs: TowerInputs, item_inputs: TowerInputs) -> str:
    """Name of the weights to start from, "" for none: those of the base run, if they took the same features."""
    base = inputs.get("base_two_tower_models")
    row: Any = base.first() if base is not None and context.config.two_tower.warm_start else None
    if row is None:
        return ""
    try:
        data = read_blob(context.config.root, row["rel_path"], row["model_version"])
        model = load_model(data)
    except DamagedError as err:
        _log.warning("step=two_tower phase=start cold, for the base's weights are damaged: %s", err)
        return ""
    if _form(model.user_inputs) != _form(user_inputs) or _form(model.item_inputs) != _form(item_inputs):
        _log.warning("step=two_tower phase=start cold, for the base's model took other features")
        return ""
    context.scratch("two_tower").write_bytes("start", data)
    return "start"


def _form(inputs: TowerInputs) -> list[tuple[str, str, int]]:
    """What must be the same for weights to mean the same: not the means of the day, nor the size of the tables."""
    return [(field.name, field.kind, field.width) for field in inputs.fields]


def _model_row(context: Context, state: State, weights: bytes) -> DataFrame:
    """Puts the model in its place, and the row that names it."""
    job = read_job(context.scratch("two_tower"))
    card = {
        "settings": job.settings.model_dump(),
        "seed": job.seed,
        "data": job.data,
        "epochs": state.epochs,
        "best_epoch": state.best,
        "started_warm": bool(job.start),
    }
    file = pack_model(unpack(weights)[0], job.user_inputs, job.item_inputs, job.shape, card)
    blob = put_blob(context.config.root, file, SUFFIX)
    best = state.epochs[state.best - 1]
    context.figures.update(best, n_epochs=len(state.epochs), best_epoch=state.best, warm=float(bool(job.start)))
    text = json.dumps(load_model(file).card, sort_keys=True)
    return context.spark.createDataFrame([(blob.sha256, blob.rel_path, blob.n_bytes, text)], _SCHEMA)
