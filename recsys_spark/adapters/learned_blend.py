"""What followed the lists of earlier runs, as choices; and the weights of lists that foresee it best.

Owns: who is drawn, what counts as followed, and when weights are not learnt.  Called by the step `blend`.  A run's
lists are walked as they were blended, with the same policies as of its date; what its users engaged with between its
date and today's is what they chose.  On the driver: at most learn_users rows of lists of each run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.adapters.blend import active_users, fit_shared, fit_shown, own_lists
from recsys_spark.adapters.blend_scopes import Settings, Worker, said_of, walk_scopes, worker_of
from recsys_spark.adapters.weights import is_positive
from recsys_spark.config import Config
from recsys_spark.kernels.choose_blend import choose_blend
from recsys_spark.kernels.intervals import user_keys
from recsys_spark.kernels.learned_blend import N_SAID, Choices, fit_weights

_RIDGE = (
    1e-3  # from 1e-4 to 1e-2 nothing changed on the tuning days of two logs; it is there for lists that say the same
)
# Of a list that otherwise counts for nothing: far below what one place makes in a list that counts.
_REST = 1e-6

_BLOCK_USERS = 512  # walked at a time; what all lists say of all that they propose to these is some 20 MB

_MIN_USERS = 100  # with a choice; fewer say little of five lists


@dataclass(frozen=True)
class PastRun:
    """A run of an earlier date: its tables (`PAST_READS` of the plan), and D 00:00 UTC of its date."""

    run_id: str
    cutoff: datetime
    tables: Mapping[str, DataFrame]


@dataclass(frozen=True)
class Lesson:
    """What weights are learnt for: the lists of `settings`, by what users did before `until`."""

    config: Config
    settings: Settings
    until: datetime
    seed: int


@dataclass(frozen=True)
class Fit:
    """How lists are fused, and why so.

    method: rrf, learned, or the one list that alone found more than all together.  weights: float64 (n_lists, 2), None
    for rrf.  n_users: drawn users who chose something that was proposed.
    """

    method: str
    why: str
    weights: np.ndarray | None
    run_ids: tuple[str, ...]
    n_users: int


def fit_learned(runs: Sequence[PastRun], inputs: Mapping[str, DataFrame], lesson: Lesson) -> Fit:
    """The weights of lists, learnt from what followed `runs`.  inputs: events and items, as of today.

    Half of the users judge what is fitted on the others: do the weights surely find more of what users chose than the
    best list alone?  Then they decide, fitted once more on all; else that list does.
    """
    settings, wanted = lesson.settings, lesson.config.candidates.learn_runs
    run_ids = tuple(run.run_id for run in runs)
    if len(runs) < wanted:
        return Fit("rrf", f"{len(runs)} runs of earlier dates, learn_runs is {wanted}", None, run_ids, 0)
    # A run that has been collected, or that nothing followed yet, says nothing.
    found = {run.run_id: one for run in runs if len((one := _choices(run, inputs, lesson)).indptr) > 1}
    run_ids = tuple(found)
    if len(found) < wanted:
        return Fit("rrf", f"{len(found)} runs of earlier dates that tell, learn_runs is {wanted}", None, run_ids, 0)
    choices = _concatenated(list(found.values()), len(settings.sources))
    n_users = int(np.count_nonzero(choices.n_chosen))
    if n_users < _MIN_USERS:
        return Fit("rrf", f"{n_users} users chose what was proposed, fewer than {_MIN_USERS}", None, run_ids, n_users)
    wanted_lists = [at for at, weight in enumerate(settings.weights) if weight > 0]
    alone = [_single(at, settings) for at in wanted_lists]
    depth = lesson.config.candidates.learn_depth
    decides, best, more = choose_blend(_fit_weights, alone, choices, depth, lesson.seed)
    name = settings.sources[wanted_lists[best]]
    why = f"all lists together find {more.estimate:+.4f} [{more.low:+.4f}, {more.high:+.4f}] more than {name} alone"
    if decides is None:
        weights = _with_rest(_fit_weights(choices), wanted_lists)
        return Fit("learned", f"{why}, on {n_users} users", weights, run_ids, n_users)
    return Fit(name, f"{why}, which is not sure", _with_rest(alone[decides], wanted_lists), run_ids, n_users)


def _with_rest(weights: np.ndarray, wanted_lists: Sequence[int]) -> np.ndarray:
    """The weights, by which every wanted list orders what all others say nothing of: a new user is in few lists."""
    rest = weights.copy()
    rest[list(wanted_lists), 0] += _REST
    return rest


def _fit_weights(choices: Choices) -> np.ndarray:
    return fit_weights(choices, _RIDGE)


def _single(at: int, settings: Settings) -> np.ndarray:
    """Weights by which list `at` alone decides."""
    weights = np.zeros((len(settings.sources), N_SAID))
    weights[at, 0] = 1.0
    return weights


def _choices(run: PastRun, inputs: Mapping[str, DataFrame], lesson: Lesson) -> Choices:
    """What the run proposed to users who then engaged with anything, and which of it they engaged with."""
    config, settings = lesson.config, lesson.settings
    past = {**run.tables, "events": inputs["events"], "items": inputs["items"]}
    known = past["source_candidates"].where(F.col("source").isin(*settings.sources))
    worker = worker_of(fit_shared(known, settings, fit_shown(past, config, run.cutoff)))
    drawn = _drawn(past, run.cutoff, lesson).persist()
    users = active_users(past, config.candidates, run.cutoff).join(drawn, on="user_idx", how="inner")
    # The lists of a few users, without grouping those of all.
    theirs = known.join(F.broadcast(drawn.select("user_idx")), on="user_idx", how="left_semi")
    rows = users.join(own_lists(theirs), on="user_idx", how="left").orderBy("user_idx")
    block = rows.select("user_id", "segment", "excluded", "own", "engaged").toArrow().combine_chunks()
    drawn.unpersist()
    parts = [_block_choices(part, worker, lesson) for part in block.to_batches(max_chunksize=_BLOCK_USERS)]
    return _concatenated(parts, len(settings.sources))


def _block_choices(block: pa.RecordBatch, worker: Worker, lesson: Lesson) -> Choices:
    """The choice sets of a block of users: the first items of every list, and all that every list says of them."""
    scopes = walk_scopes(block, worker, lesson.settings.k)
    if not scopes:
        return _nothing(len(lesson.settings.sources))
    pool, said = said_of(scopes, worker)
    nearest = np.minimum.reduceat(pool.ranks, pool.starts) if len(pool.starts) else pool.ranks
    near = np.flatnonzero(nearest <= lesson.config.candidates.learn_depth)
    users, items = pool.users[near], pool.items[near]
    ids = worker.item_id.take(pa.array(worker.places[items]))
    return Choices(
        np.searchsorted(users, np.arange(block.num_rows + 1)),
        said[near],
        _engaged(block["engaged"], users, items),
        user_keys(block["user_id"].to_numpy(zero_copy_only=False)),
        user_keys(ids.to_numpy(zero_copy_only=False)),
    )


def _drawn(past: Mapping[str, DataFrame], since: datetime, lesson: Lesson) -> DataFrame:
    """user_idx and engaged (item_idx) of at most learn_users users who engaged with anything since then."""
    config = lesson.config
    time = F.col("event_time")
    followed = past["events"].where(
        (time >= F.lit(since)) & (time < F.lit(lesson.until)) & is_positive(config.events.types)
    )
    by_user = (
        followed.join(past["item_index"].select("item_id", "item_idx"), on="item_id", how="inner")
        .join(past["user_index"].select("user_id", "user_idx"), on="user_id", how="inner")
        .groupBy("user_id", "user_idx")
        .agg(F.sort_array(F.collect_set("item_idx")).alias("engaged"))
    )
    by_chance = F.xxhash64("user_id", F.lit(lesson.seed))
    return by_user.orderBy(by_chance, "user_id").limit(config.candidates.learn_users).select("user_idx", "engaged")


def _engaged(engaged: pa.Array, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Whether user users[j] engaged with item items[j], bool (n,)."""
    lengths = pc.list_value_length(engaged).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lengths)), lengths).astype(np.int64)
    wanted = (rows << 32) | engaged.flatten().to_numpy(zero_copy_only=False)
    found: np.ndarray = np.isin((users.astype(np.int64) << 32) | items, wanted)
    return found


def _concatenated(parts: Sequence[Choices], n_lists: int) -> Choices:
    """The choice sets of all parts."""
    parts = [_nothing(n_lists), *parts]
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    said, chosen, users, items = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("said", "chosen", "user_keys", "item_keys")
    )
    return Choices(np.concatenate([[0], np.cumsum(lengths)]), said, chosen, users, items)


def _nothing(n_lists: int) -> Choices:
    no_keys = np.zeros(0, np.uint64)
    return Choices(
        np.zeros(1, np.int64), np.zeros((0, n_lists, N_SAID), np.float32), np.zeros(0, bool), no_keys, no_keys
    )
