"""Three solvers of implicit ALS beside each other: ours, `implicit` and MLlib, one data set and one judge for all.

Owns: how each is fitted, the choice of its setting, and the difference of two with its interval.  The protocol is in
the docstring of `compare_als`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from implicit.als import AlternatingLeastSquares
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame, SparkSession
from scipy.sparse import csr_matrix

from recsys_spark.als.kernels.objective import Ridge, initial_factors, solve_rows
from recsys_spark.numeric.metrics import ndcg_at_k, recall_at_k
from recsys_spark.numeric.ragged import Ragged, ragged
from recsys_spark.numeric.sparse import Csr, transposed
from recsys_spark.numeric.top_k import damped, search_items, top_k
from tests.als_oracle import fixed
from tests.benchmarks.compare_item_cf import K, Log, Past, past_of
from tests.sparse import csr_of_pairs

GOODBOOKS = Path(__file__).parents[1] / "data" / "goodbooks" / "to_read.parquet"
MIN_BOOKS, HELD_OUT, TUNING_USERS = 5, 0.2, 10_000
SEED = 1
N_RESAMPLES, RESAMPLES_AT_ONCE = 10_000, 100
SCORE_BYTES = 64 << 20
# The best of a coarse search on the tuning data of MovieTweetings and goodbooks lies between the ends, to 0.001 of
# recall; MLlib was searched on one date of MovieTweetings, for the time it takes.
# Ours has two kinds: regularization, and what it counts for unobserved; the last is MLlib's kind, times alpha.
RIDGES: dict[str, tuple[tuple[float, float], ...]] = {
    "ours": ((0.01, 1.0), (0.03, 1.0), (0.2, 0.0)),
    "implicit": ((10.0, 1.0), (100.0, 1.0), (1000.0, 1.0)),
    "MLlib": ((0.1, 1.0), (1.0, 1.0), (4.0, 1.0)),
}


@dataclass(frozen=True)
class Setting:
    """A fit and how its items are ranked.  nu, tolerance: of ours alone.  half_life_days: on top of the weights."""

    factors: int
    alpha: float
    regularization: float
    nu: float = 1.0
    iterations: int = 10
    tolerance: float = 0.0
    half_life_days: float = 0.0
    norm_exponent: float = 1.0
    unobserved: float = 1.0


class Task(NamedTuple):
    """A matrix to fit, and who is judged by what.

    judged: rows of these users.  hidden, targets: row by row theirs.  listed: idx of what lists may hold, None for all.
    names: the users' names, for those who are judged on several dates.
    """

    weights: Csr
    judged: np.ndarray
    hidden: Csr
    targets: Ragged
    listed: np.ndarray | None
    names: np.ndarray


Fit = Callable[[Csr, Setting], tuple[np.ndarray, np.ndarray]]


def task_of(past: Past, half_life_days: float) -> Task:
    """A date of a log, as `compare_item_cf` judges it."""
    values = past.weights.values
    if half_life_days:
        values = (values * 0.5 ** (past.age_days / half_life_days)).astype(np.float32)
    targets = ragged([np.searchsorted(past.items, sorted(wanted)) for wanted in past.holdout.targets])
    listed, names = np.flatnonzero(past.available), np.array(past.holdout.users)
    return Task(past.weights._replace(values=values), past.judged, past.hidden, targets, listed, names)


def figures_of(task: Task, X: np.ndarray, Y: np.ndarray, norm_exponent: float) -> np.ndarray:
    """Recall and ndcg of every judged user, (n, 2)."""
    items = search_items(damped(Y, norm_exponent), task.listed)
    lists = top_k(X[task.judged], items, K, task.hidden, SCORE_BYTES)
    found = Ragged(lists.indptr, lists.indices.astype(np.int64))
    return np.stack([metric(found, task.targets, K) for metric in (recall_at_k, ndcg_at_k)], axis=1)


def fit_ours(weights: Csr, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Factors of users and items by the kernel, in the order and with the end of `als.fit`."""
    ridge, columns = Ridge(setting.alpha, setting.regularization, setting.nu, setting.unobserved), transposed(weights)
    Y, before = initial_factors(0, weights.n_cols, setting.factors, SEED), np.inf
    for _ in range(setting.iterations):
        users = solve_rows(weights, fixed(Y), ridge)
        items = solve_rows(columns, fixed(users.X), ridge)
        Y, objective = items.X, items.losses.sum() + users.penalties.sum()
        if before - objective < setting.tolerance * objective:
            break
        before = objective
    return solve_rows(weights, fixed(Y), ridge).X, Y


def fit_implicit(weights: Csr, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """By conjugate gradients, users solved once more at the end as ours are; its data are the confidences."""
    shape = weights.n_rows, weights.n_cols
    matrix = csr_matrix((1 + setting.alpha * weights.values, weights.indices, weights.indptr), shape)
    model = AlternatingLeastSquares(
        factors=setting.factors,
        regularization=setting.regularization,
        alpha=1.0,
        iterations=setting.iterations,
        use_cg=True,
        use_gpu=False,
        num_threads=1,
        random_state=SEED,
    )
    model.fit(matrix, show_progress=False)
    return model.recalculate_user(np.arange(weights.n_rows), matrix), model.item_factors


def mllib_fit(spark: SparkSession, folder: Path) -> Fit:
    """A fit by MLlib, whose confidence is 1 + alpha |r| too."""

    def fit(weights: Csr, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
        file = folder / "weights.parquet"
        columns = {"user_idx": weights.rows.astype(np.int32), "item_idx": weights.indices, "weight": weights.values}
        pq.write_table(pa.table(columns), file)
        als = ALS(
            rank=setting.factors,
            maxIter=setting.iterations,
            regParam=setting.regularization,
            alpha=setting.alpha,
            implicitPrefs=True,
            numUserBlocks=4,
            numItemBlocks=4,
            userCol="user_idx",
            itemCol="item_idx",
            ratingCol="weight",
            seed=SEED,
        )
        model = als.fit(spark.read.parquet(str(file)))
        return tuple(
            _array(frame, n, setting.factors)
            for frame, n in ((model.userFactors, weights.n_rows), (model.itemFactors, weights.n_cols))
        )

    return fit


def _array(frame: DataFrame, n_rows: int, factors: int) -> np.ndarray:
    """Factors by idx, zero for those without."""
    table = frame.toArrow().combine_chunks()
    found = np.zeros((n_rows, factors), np.float32)
    vectors = pa.concat_arrays(table["features"].chunks).flatten().to_numpy()
    found[table["id"].to_numpy()] = vectors.reshape(-1, factors)
    return found


def log_tasks(log: Log) -> tuple[list[Task], list[Task]]:
    """The tuning and the judged dates."""
    tuning, judged = ([task_of(past_of(log, day), 0.0) for day in days] for days in (log.tuning, log.judged))
    return tuning, judged


def book_tasks(n_users: int | None) -> tuple[list[Task], list[Task]]:
    """Goodbooks: what is left out of every user's books, once to choose settings, once to judge them."""
    pairs = pq.read_table(GOODBOOKS).to_pandas()
    pairs = pairs[pairs.groupby("user_id")["item_id"].transform("size") >= MIN_BOOKS]
    pairs = pairs[pairs["user_id"].isin(np.unique(pairs["user_id"])[:n_users])]
    users, rows = np.unique(pairs["user_id"], return_inverse=True)
    items, cols = np.unique(pairs["item_id"], return_inverse=True)
    rng = np.random.default_rng(SEED)
    order = np.lexsort((rng.random(len(rows)), rows))
    rows, cols, n_books = rows[order], cols[order], np.bincount(rows)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(n_books) - n_books, n_books)
    n_judged = np.maximum(1, np.rint(HELD_OUT * n_books))
    n_tuning = np.maximum(1, np.rint(HELD_OUT * (n_books - n_judged)))
    for_judging = place < n_judged[rows]
    for_tuning = ~for_judging & (place < (n_judged + n_tuning)[rows])
    some = np.sort(rng.choice(len(users), min(TUNING_USERS, len(users)), replace=False))
    tasks = []
    for judged, known, wanted in (
        (some, ~for_judging & ~for_tuning, for_tuning),
        (np.arange(len(users)), ~for_judging, for_judging),
    ):
        weights = csr_of_pairs(rows[known], cols[known], np.ones(known.sum()), len(users), len(items))
        hidden, targets = (_rows_of(rows[part], cols[part], judged, len(users), len(items)) for part in (known, wanted))
        wanted_books = Ragged(targets.indptr, targets.indices.astype(np.int64))
        tasks.append(Task(weights, judged, hidden, wanted_books, None, judged))
    return [tasks[0]], [tasks[1]]


def _rows_of(rows: np.ndarray, cols: np.ndarray, judged: np.ndarray, n_rows: int, n_cols: int) -> Csr:
    """The pairs of the judged rows, these numbered from 0."""
    place = np.full(n_rows, -1)
    place[judged] = np.arange(len(judged))
    kept = place[rows] >= 0
    return csr_of_pairs(place[rows[kept]], cols[kept], np.ones(kept.sum()), len(judged), n_cols)


def compare_solvers(
    logs: dict[str, tuple[list[Task], list[Task]]], fits: dict[str, Fit], n_settings: int | None
) -> dict[str, dict[str, Any]]:
    """By log the figures of every solver at its best setting, and what ours has over each; printed as they come.

    logs: tasks to choose a setting by, and to judge it by.  fits: ours is the first.  n_settings: of the twelve.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in logs}
    ours: dict[str, np.ndarray] = {}
    for (solver, fit), (name, (tuning, judged)) in product(fits.items(), logs.items()):
        print(f"\n{name}, {solver}: {sum(len(task.names) for task in judged):,} judged lists", flush=True)
        setting = best_of(fit, RIDGES[solver], tuning, n_settings)
        by_user = np.concatenate([_figures(fit, setting, task) for task in judged])
        recall, ndcg = by_user.mean(axis=0)
        print(f"  recall@{K} {recall:.4f}, ndcg@{K} {ndcg:.4f} with {_shared(setting)}", flush=True)
        found[name][solver] = {"recall": recall, "ndcg": ndcg, "setting": _shared(setting)}
        if name not in ours:
            ours[name] = by_user
            continue
        more = difference(ours[name] - by_user, np.concatenate([task.names for task in judged]))
        for metric, (mean, low, high) in more.items():
            print(f"  {metric}, ours - {solver}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]", flush=True)
        found[name][f"ours - {solver}"] = more
    return found


def best_of(fit: Fit, ridges: tuple[tuple[float, float], ...], tasks: list[Task], n_settings: int | None) -> Setting:
    """The setting with the highest recall, of twelve or of the first of them."""
    recalls = {}
    twelve = list(product((64, 128), (1.0, 10.0), ridges))
    for factors, alpha, (regularization, unobserved) in twelve[:n_settings]:
        setting = Setting(factors, alpha, regularization, unobserved=unobserved)
        recalls[setting] = float(np.mean([_figures(fit, setting, task)[:, 0].mean() for task in tasks]))
        print(f"    {recalls[setting]:.4f} {_shared(setting)}", flush=True)
    return max(recalls, key=lambda setting: recalls[setting])


def _shared(setting: Setting) -> str:
    """What solvers are given, in one line."""
    ridge = f"regularization={setting.regularization:g}" + ("" if setting.unobserved else " unobserved=0")
    return f"factors={setting.factors} alpha={setting.alpha:g} {ridge}"


def _figures(fit: Fit, setting: Setting, task: Task) -> np.ndarray:
    return figures_of(task, *fit(task.weights, setting), setting.norm_exponent)


def difference(by_user: np.ndarray, names: np.ndarray) -> dict[str, list[float]]:
    """By metric the mean of the differences, (n, 2), and its 95 % interval by bootstrap.

    names: (n,), whose row it is; a user is drawn with all of theirs.
    """
    _, user = np.unique(names, return_inverse=True)
    n = int(user.max()) + 1
    sums = np.stack([np.bincount(user, column) for column in (*by_user.T, np.ones(len(user)))], axis=1)  # (n, 3)
    rng, drawn = np.random.default_rng(SEED), []
    first = n * np.arange(RESAMPLES_AT_ONCE)[:, None]
    for _ in range(N_RESAMPLES // RESAMPLES_AT_ONCE):
        picked = first + rng.integers(n, size=(RESAMPLES_AT_ONCE, n))
        times = np.bincount(picked.ravel(), minlength=n * RESAMPLES_AT_ONCE).reshape(RESAMPLES_AT_ONCE, n)
        drawn.append(times @ sums)  # (RESAMPLES_AT_ONCE, 3)
    totals = np.concatenate(drawn)
    low, high = np.percentile(totals[:, :2] / totals[:, 2:], (2.5, 97.5), axis=0)
    found = np.stack([by_user.mean(axis=0), low, high], axis=1).tolist()
    return dict(zip(("recall", "ndcg"), found, strict=True))
