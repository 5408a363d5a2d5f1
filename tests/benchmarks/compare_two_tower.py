"""The two-tower model on two real logs: beside ALS, item-item CF and popularity, for new items, and part by part.

    uv run --group bench python tests/benchmarks/compare_two_tower.py [--tune] [--part logs|new|parts]
                                                       [--users N] [--dates N] [--settings N] [--epochs N]

Every setting that is not named comes from conf/base.toml; recall@20 and ndcg@20.  Dates, weights, availability and what
is hidden from whom are those of compare_item_cf.  The model is trained by the code of the step
(two_tower/training_process.py), one process on one core, without a warm start; of its features those that these logs
have: title, category or genres, country, and how many users had an item of late.

--tune  On the tuning dates alone: one setting at a time around the defaults, by the mean over both logs of recall in
        parts of that of 28-day popularity.
logs    The defaults on the judged dates, lists pooled; differences to the better popularity are paired, with 95 %
        intervals of 10,000 bootstrap resamples of users, each with all their dates.
new     On the first judged date of each log: a random twentieth of the items loses its history, before the date and
        for the model, and keeps its catalogue row; users who engage with one afterwards are judged by these items
        alone, ranked among all that are available.  ALS has no factors for them.
parts   On every second of the judged dates, without one part each: logQ, ids, features.

`--users`, `--dates` and `--settings` take less than all of the logs and of the grids.
The last line is JSON.  Exit status 1 if the model is below the better popularity on average over the logs.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
import torch

from recsys_spark.config.load import load_config
from recsys_spark.config.models import TwoTower
from recsys_spark.numeric.metrics import ndcg_at_k, recall_at_k
from recsys_spark.numeric.ragged import Ragged
from recsys_spark.numeric.sparse import Csr
from recsys_spark.numeric.top_k import search_items, top_k
from recsys_spark.two_tower.kernels.batches import Shard
from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs, squash
from recsys_spark.two_tower.kernels.model_file import unpack
from recsys_spark.two_tower.training_job import Job, read_job
from recsys_spark.two_tower.training_process import Training, World
from recsys_spark.two_tower.training_shards import read_users, write_items, write_users
from recsys_spark.warehouse.scratch import Scratch
from tests.benchmarks.compare_als import defaults as als_defaults
from tests.benchmarks.compare_item_cf import (
    AVAILABLE_DAYS,
    K,
    Log,
    Past,
    log_options,
    logs_of,
    past_of,
    product_defaults,
)
from tests.benchmarks.peers_als import SEED, Task, difference, figures_of, fit_ours, task_of
from tests.benchmarks.peers_towers import HISTORY, item_table, lists_of_item_cf, lists_of_order, user_table
from tests.benchmarks.report import finish
from tests.staged import no_items

SCORE_BYTES = 64 << 20
DAY_US = 86_400_000_000
HIDDEN_SHARE = 0.05


@dataclass(frozen=True)
class Case:
    """A date, and the tables that the towers take: of items in the order of their columns, of users of their rows."""

    past: Past
    task: Task
    users: pa.Table
    items: pa.Table


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the grids of the tuning dates, or the parts that are asked for."""
    parser = log_options(__doc__)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--part", choices=("logs", "new", "parts"))
    parser.add_argument("--epochs", type=int, metavar="N", help="at most N; those of conf/base.toml by default")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    parts = {"tune": tuned} if asked.tune else {"logs": compared, "new": new_items, "parts": ablated}
    started = time.perf_counter()
    logs = logs_of(asked.users, asked.dates)
    found = {name: part(logs, asked) for name, part in parts.items() if asked.part in (None, name) or asked.tune}
    print(f"\n{time.perf_counter() - started:.0f} s")
    ratios = [log["two_tower"][0] / log["better popularity"][0] for log in found.get("logs", {}).values()]
    finish(found, asked, within_bars=not ratios or np.mean(ratios) >= 1)


def settings(asked: argparse.Namespace) -> TwoTower:
    """The defaults, on one core."""
    epochs = {"epochs": asked.epochs} if asked.epochs else {}
    return load_config().two_tower.model_copy(update={"device": "cpu", "threads": 1, "processes": 1} | epochs)


def case_of(past: Past) -> Case:
    """The date with the towers' features."""
    return Case(past, task_of(past, 0.0), user_table(past), item_table(past))


def embedded(
    case: Case, settings: TwoTower, with_features: bool = True, with_ids: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the judged users and of all items, by a model that is trained on the past."""
    folder = Path(tempfile.mkdtemp(prefix="recsys-bench-"))
    scratch = Scratch(folder)
    stage(case, settings, with_features, with_ids, scratch)
    training = Training(read_job(scratch), scratch, World(0, 1, torch.device("cpu")))
    state = training.run()
    best = scratch.read_bytes(f"best-{state.best:04d}") or b""
    training.trainer.model.load(unpack(best)[0])
    items = training.trainer.embed_items()
    shard, judged = read_users(scratch, 0), case.task.judged
    users = training.trainer.embed_users(shard, judged, shard.indptr[judged], items)
    shutil.rmtree(folder)
    return users, items


def stage(case: Case, settings: TwoTower, with_features: bool, with_ids: bool, scratch: Scratch) -> None:
    """What two_tower/training_stage.py stages, of one date; times are microseconds before it."""
    weights, age = case.past.weights, case.past.age_days
    order = np.lexsort((weights.indices, age, weights.rows))
    values = np.where(age <= settings.training_days, weights.values, 0)
    if settings.half_life_days:
        values = values * 0.5 ** (age / settings.half_life_days)
    n_users, n_items = weights.n_rows, weights.n_cols
    users = inputs_of(case.users, ("country",) if with_features else (), 0, settings)
    n_ids = 1 << (8 * n_items - 1).bit_length() if with_ids else 0
    left_out = {"known_id", *HISTORY} - set(settings.item_history)
    named = tuple(name for name in case.items.column_names if name not in left_out) if with_features else ()
    items = inputs_of(case.items, named, n_ids, settings)
    shard = Shard(
        np.arange(n_users, dtype=np.int32), weights.indptr, weights.indices[order],
        (-age[order] * DAY_US).astype(np.int64), values[order].astype(np.float32), no_items(n_users),
        users.encode(case.users),
    )  # fmt: skip
    write_users(scratch, 0, shard)
    write_items(scratch, 0, items.encode(case.items))
    split = -settings.validation_days * DAY_US
    scratch.mark("job", Job(settings, SEED, n_items, 1, 1, split, users, items, {}, "").as_json())


def inputs_of(table: pa.Table, names: tuple[str, ...], n_ids: int, settings: TwoTower) -> TowerInputs:
    """What two_tower/feature_columns.py makes of these columns."""
    fields = []
    for name in names:
        column = table[name]
        if pa.types.is_floating(column.type):
            squashed = squash(column.to_numpy())
            squashed = squashed[np.isfinite(squashed)]
            measure = {"mean": float(squashed.mean()), "deviation": float(squashed.std()) or 1.0}
            fields.append(Field(name, "number", **measure, engaged=name in settings.item_history))
        elif pa.types.is_list(column.type):
            fields.append(Field(name, "values"))
        else:
            fields.append(Field(name, "words" if name in settings.item_words else "category"))
    return TowerInputs((*fields, *((Field("known_id", "id"),) if n_ids else ())), settings.n_buckets, n_ids)


def by_user(case: Case, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Recall and ndcg of every judged user, (n, 2)."""
    task = case.task
    lists = top_k(users, search_items(items, task.listed), K, task.hidden, SCORE_BYTES)
    return metrics(Ragged(lists.indptr, lists.indices.astype(np.int64)), task.targets)


def metrics(lists: Ragged, targets: Ragged) -> np.ndarray:
    """Recall and ndcg, (n, 2)."""
    return np.stack([metric(lists, targets, K) for metric in (recall_at_k, ndcg_at_k)], axis=1)


def mean_recall(cases: list[Case], one: TwoTower) -> float:
    """Mean over dates of the recall of a model."""
    return float(np.mean([by_user(case, *embedded(case, one))[:, 0].mean() for case in cases]))


def tuned(logs: list[Log], asked: argparse.Namespace) -> dict[str, list[float]]:
    """By setting the recall on the tuning dates of each log, in parts of 28-day popularity."""
    default, found = settings(asked), {}
    cases = [[case_of(past_of(log, day)) for day in log.tuning[-2:]] for log in logs]
    popular = [np.mean([lists_of_order(case, AVAILABLE_DAYS, K)[:, 0].mean() for case in log]) for log in cases]
    for name, changes in list(grid().items())[: asked.settings]:
        one = default.model_copy(update=changes)
        found[name] = [mean_recall(log, one) / float(base) for log, base in zip(cases, popular, strict=True)]
        print(f"  {np.mean(found[name]):.4f}  {' '.join(f'{ratio:.4f}' for ratio in found[name])}  {name}", flush=True)
    return found


def grid() -> dict[str, dict[str, Any]]:
    """The defaults, then one change each."""
    changes = [
        *({"temperature": value} for value in (0.05, 0.15, 0.3)),
        *({"half_life_days": value} for value in (10.0, 30.0, 60.0)),
        *({"hard_share": value} for value in (0.0, 0.6)),
        *({"learning_rate": value} for value in (0.001, 0.006)),
        *({"id_dropout": value} for value in (0.0, 0.2)),
        *({"batch_size": value} for value in (256, 1024)),
        *({"history_items": items, "half_life_items": items / 2} for items in (20, 300)),
        {"dim": 128, "hidden": 256},
        {"random_negatives": "popularity"},
        {"normalize": False, "temperature": 1.0},
    ]
    named = {", ".join(f"{name}={value}" for name, value in change.items()): change for change in changes}
    return {"the defaults": {}, **named}


def compared(logs: list[Log], asked: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Recall and ndcg by log and method on the judged dates, printed as a table."""
    found: dict[str, dict[str, Any]] = {}
    als = als_defaults()
    for log in logs:
        cases = [case_of(past_of(log, day)) for day in log.judged]
        lists = {
            "two_tower": [by_user(case, *embedded(case, settings(asked))) for case in cases],
            "als": [
                figures_of(task, *fit_ours(task.weights, als), als.norm_exponent)
                for task in (task_of(case.past, als.half_life_days) for case in cases)
            ],
            "item_cf": [lists_of_item_cf(case, product_defaults()) for case in cases],
            "most engaged with in 28 days": [lists_of_order(case, AVAILABLE_DAYS, K) for case in cases],
            "most engaged with of all time": [lists_of_order(case, None, K) for case in cases],
        }
        found[log.name] = {name: np.mean([part.mean(axis=0) for part in parts], axis=0).tolist()
                           for name, parts in lists.items()}  # fmt: skip
        popular = max(list(lists)[3:], key=lambda name: found[log.name][name][0])
        found[log.name]["better popularity"] = found[log.name][popular]
        names = np.concatenate([case.task.names for case in cases])
        more = difference(np.concatenate(lists["two_tower"]) - np.concatenate(lists[popular]), names)
        found[log.name]["two_tower - better popularity"] = more
        print(f"\n{log.name}: {len(cases)} dates, {len(names):,} judged lists\n\n| method | recall@{K} | ndcg@{K} |")
        print("|---|---|---|")
        for name in lists:
            recall, ndcg = found[log.name][name]
            print(f"| {name} | {recall:.4f} | {ndcg:.4f} |")
        for metric, (mean, low, high) in more.items():
            print(f"{metric}, two_tower - {popular}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]", flush=True)
    return found


def ablated(logs: list[Log], asked: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Recall and ndcg by log without one part each, printed as a table."""
    one, found = settings(asked), {}
    variants = {
        "the defaults": (one, True, True),
        "without logQ": (one.model_copy(update={"log_q": False}), True, True),
        "without ids": (one, True, False),
        "without features": (one.model_copy(update={"id_dropout": 0.0}), False, True),
    }
    for log in logs:
        cases = [case_of(past_of(log, day)) for day in log.judged[::2]]
        found[log.name] = {
            name: np.mean([by_user(case, *embedded(case, *how)).mean(axis=0) for case in cases], axis=0).tolist()
            for name, how in variants.items()
        }
        for name, (recall, ndcg) in found[log.name].items():
            print(f"| {log.name} | {name} | {recall:.4f} | {ndcg:.4f} |", flush=True)
    return found


def new_items(logs: list[Log], asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Recall of items whose history is hidden, beside that of a random order; printed."""
    found = {}
    for log in logs:
        case, targets, rows = hidden_case(log)
        users, items = embedded(case, settings(asked))
        lists = top_k(users[rows], search_items(items, case.task.listed), K, _rows(case.task.hidden, rows), SCORE_BYTES)
        recall = metrics(Ragged(lists.indptr, lists.indices.astype(np.int64)), targets)[:, 0].mean()
        chance = min(1.0, K / len(case.task.listed))
        found[log.name] = {"recall": float(recall), "random": chance, "factor": float(recall / chance), "als": 0.0}
        print(f"{log.name}: {len(rows):,} users, recall@{K} of hidden items {recall:.4f}, random {chance:.4f}, "
              f"{recall / chance:.1f} times", flush=True)  # fmt: skip
    return found


def hidden_case(log: Log) -> tuple[Case, Ragged, np.ndarray]:
    """The date with a twentieth of the items without a past; these as targets, and the places of users who have any."""
    whole = case_of(past_of(log, log.judged[0]))
    n_items = len(whole.past.items)
    hidden = np.random.default_rng(SEED).random(n_items) < HIDDEN_SHARE
    weights = whole.past.weights
    kept = ~hidden[weights.indices]
    rows = weights.rows[kept]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=weights.n_rows))]).astype(np.int64)
    past = replace(
        whole.past,
        weights=Csr(indptr, weights.indices[kept], weights.values[kept], n_items),
        age_days=whole.past.age_days[kept],
    )
    targets = whole.task.targets
    wanted = hidden[targets.values]
    counts = np.bincount(targets.rows[wanted], minlength=targets.n_rows)
    users = np.flatnonzero(counts)
    of_hidden = Ragged(np.concatenate([[0], np.cumsum(counts[users])]).astype(np.int64), targets.values[wanted])
    return Case(past, whole.task, whole.users, item_table(past)), of_hidden, users


def _rows(matrix: Csr, rows: np.ndarray) -> Csr:
    lengths = matrix.lengths[rows]
    parts = [matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]] for row in rows]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Csr(indptr, np.concatenate(parts), np.empty(0, np.float32), matrix.n_cols)


if __name__ == "__main__":
    main()
