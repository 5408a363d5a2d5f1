"""`implicit` on one matrix of counts: its models, the choice of a setting, and lists.

Owns: how it is fitted and searched.  The protocol is in the docstring of `judge_defaults`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from scipy.sparse import csr_matrix

Setting = tuple[str, int, float, float]  # als, cosine or bm25; factors or neighbours; alpha; ridge

_SEED, _ITERATIONS, _THREADS = 1, 15, 2
_MOST_JUDGED = 4000  # users by whom a setting is chosen


@dataclass(frozen=True)
class Task:
    """counts: (n_users, n_items).  users, items: ids.  hidden: items that no list holds.  targets: by user."""

    counts: csr_matrix
    users: np.ndarray
    items: np.ndarray
    hidden: np.ndarray
    targets: Mapping[str, set[str]]
    k: int

    @classmethod
    def of(cls, train: pd.DataFrame, targets: Mapping[str, set[str]], since: Any, k: int) -> "Task":
        """since: items must have been had since then; None: whenever."""
        users, rows = np.unique(train["user_id"], return_inverse=True)
        items, cols = np.unique(train["item_id"], return_inverse=True)
        counts = csr_matrix((np.ones(len(rows), np.float32), (rows, cols)), (len(users), len(items)))
        shown = np.ones(len(items), bool)
        if since is not None:
            shown = np.isin(items, train.loc[train["event_time"] >= since, "item_id"].unique())
        return cls(counts, users, items, np.flatnonzero(~shown), targets, k)


def lists_of(task: Task, setting: Setting, judged: Sequence[str] | None = None) -> dict[str, list[str]]:
    """The list of every judged user."""
    kind, size, alpha, ridge = setting
    wanted = np.searchsorted(task.users, list(task.targets) if judged is None else judged)
    matrix = task.counts
    if kind == "als":
        # Its data are the confidences: 1 + alpha r.
        matrix = matrix.copy()
        matrix.data = 1 + np.float32(alpha) * matrix.data
        model = AlternatingLeastSquares(
            factors=size, regularization=ridge, alpha=1.0, iterations=_ITERATIONS, use_gpu=False,
            num_threads=_THREADS, random_state=_SEED,
        )  # fmt: skip
    else:
        model = (CosineRecommender if kind == "cosine" else BM25Recommender)(K=size, num_threads=_THREADS)
    model.fit(matrix, show_progress=False)
    options = {"filter_items": task.hidden} if len(task.hidden) else {}
    ids, scores = model.recommend(wanted, matrix[wanted], N=task.k, filter_already_liked_items=True, **options)
    floor = 0.0 if kind != "als" else -np.inf  # neighbours score what is near to nothing 0
    return {
        str(task.users[user]): [
            str(task.items[at]) for at, score in zip(row, marks, strict=True) if score > floor and at >= 0
        ]
        for user, row, marks in zip(wanted, ids, scores, strict=True)
    }


def tried(task: Task, grid: Sequence[Setting], rows: Path) -> dict[Setting, float]:
    """What every setting finds; each is a line of `rows`, and is not tried again."""
    done = (
        {tuple(one["setting"]): one["recall"] for one in map(json.loads, rows.read_text().splitlines())}
        if rows.exists()
        else {}
    )
    rng = np.random.default_rng(_SEED)
    judged = sorted(task.targets)
    if len(judged) > _MOST_JUDGED:
        judged = sorted(rng.choice(judged, _MOST_JUDGED, replace=False).tolist())
    for setting in grid:
        if setting in done:
            continue
        lists = lists_of(task, setting, judged)
        found = [len(task.targets[user].intersection(lists[user])) / len(task.targets[user]) for user in judged]
        done[setting] = float(np.mean(found))
        print(f"  tuning {setting} {done[setting]:.4f}", flush=True)
        with rows.open("a") as file:
            file.write(json.dumps({"setting": setting, "recall": done[setting]}) + "\n")
    return {setting: done[setting] for setting in grid}
