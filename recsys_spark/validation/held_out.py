"""Hold-out of validation: small runs as of days before the date, or without a part of users' histories.

Owns: what is held out, and which users judge trials.

Where events have times the cut is global: nothing of the held days, of any user, is in weights, popularity,
availability or what users have seen.  Where only their order is known, the last event of drawn users is held out; where
not even that is known, a tenth of what they had.  Judged users are drawn; the fit takes all pairs up to `max_pairs`.

With times, new items come as they came.  Without times, and where the catalogue has items that nobody has had, nothing
tells how often these will be taken.  A small run then removes as large a share of all other items from the log: they
are new to it, and are taken as often as others.  It lists as many new items as the catalogue has.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.evaluation.protocol import engagements, later_events
from recsys_spark.numeric.ragged import row_offsets
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr, rows_of
from recsys_spark.retrieval.declared import check_params, load
from recsys_spark.retrieval.sources import popular
from recsys_spark.retrieval.user_lists import Personal
from recsys_spark.sequence.kernels.successors import Histories, newest_histories
from recsys_spark.signals.event_weights import is_positive, known_events
from recsys_spark.signals.interactions import fit_interactions
from recsys_spark.signals.visibility import is_hidden, shown_items
from recsys_spark.spark.arrow_vectors import matrix_of
from recsys_spark.spark.sparse_blocks import RowBlock
from recsys_spark.validation.choice_sets import Judged
from recsys_spark.validation.fits import FITTED, Trial, TrialLog
from recsys_spark.validation.grid import ATTRIBUTES
from recsys_spark.validation.item_facts import ItemFacts, item_facts

_log = logging.getLogger(__name__)

LENGTH = 20  # places of a list that count
_ENOUGH = 3000  # judged users; with fewer, earlier days are held out too
_MOST_FOLDS = 3
_LEAST_SHARE = 5  # at most one in this many of the log's days is held out
_HELD = 10  # one in this many of a user's items is held out, where their order is not known
_MOST_NEW = 0.1  # largest share of the items that are made new in a small run without times
_CHANCES = 1_000_000


@dataclass(frozen=True)
class Held:
    """The events that a small run sees, what users went on to (user_id, item_id), and the run's date."""

    events: DataFrame
    later: DataFrame
    day: date


@dataclass(frozen=True)
class Fold:
    """A small run: what trials are judged on, and the tables that it was made of, for sources that Spark fits.

    user_idx: int64, of every row of the log.
    """

    judged: Judged
    inputs: dict[str, DataFrame]
    context: Context
    user_idx: np.ndarray


def folds(inputs: Mapping[str, DataFrame], context: Context, first: date, n_pairs: int) -> Iterator[Fold]:
    """Small runs, the newest first, until enough users judge them.

    inputs: events, items, item_index, user_index.  first: date of the first event.  n_pairs: of the whole run.
    """
    n_judged = 0
    share = min(1.0, context.config.validation.max_pairs / max(1, n_pairs))
    drawn = dict(inputs) | {"events": _drawn(inputs["events"], share, context)}
    known = item_facts(inputs, context)
    had = _had(inputs, context, known)
    for held in _held(drawn, context, first, 0.0 if had is None else min(_MOST_NEW, 1 - float(had.mean()))):
        at = replace(context, day=held.day, figures={})
        fold = _fold(drawn | {"events": held.events}, held.later, at, known, had, share)
        yield fold
        n_judged += len(fold.judged.log.judged)
        if n_judged >= _ENOUGH:
            return


def window_of(context: Context, first: date) -> int:
    """How many days are held out."""
    return max(1, min(context.config.validation.window_days, (context.day - first).days // _LEAST_SHARE))


def _had(inputs: Mapping[str, DataFrame], context: Context, known: ItemFacts) -> np.ndarray | None:
    """Whether anybody has had an item, bool (n_items,); None where a small run does not need to know."""
    if context.config.events.is_timed or (known.texts is None and known.attributes is None):
        return None
    taken = known_events(inputs["events"], context.cutoff).select("item_id").distinct()
    found = np.zeros(known.n_items, bool)
    index = inputs["item_index"].join(taken, on="item_id", how="left_semi")
    found[index.select("item_idx").toArrow()["item_idx"].to_numpy()] = True
    return None if found.all() else found


def _held(inputs: Mapping[str, DataFrame], context: Context, first: date, share_new: float) -> Iterator[Held]:
    events, config = inputs["events"], context.config
    if not config.events.is_timed:
        yield _held_of_users(events, context, share_new)
        return
    window = window_of(context, first)
    for number in range(1, _MOST_FOLDS + 1):
        day = context.day - timedelta(days=number * window)
        if (day - first).days < window * 2:
            return
        at = replace(context, day=day)
        yield Held(events, engagements(later_events(events, at.cutoff, window), config), day)


def _held_of_users(events: DataFrame, context: Context, share_new: float) -> Held:
    """The hold-out without times: a part of the histories of drawn users, and a share of items that are made new."""
    config = context.config
    mine = F.col("user_id").isNotNull() & is_positive(config.events.types)
    if config.events.clock == "order":
        # Events without a user are spread over windows of their own, or one task would get them all.
        of_user = Window.partitionBy("user_id", F.when(F.col("user_id").isNull(), F.xxhash64("item_id", "event_time")))
        last = F.max(F.when(mine, F.col("event_time"))).over(of_user)
        first = F.min(F.when(mine, F.col("event_time"))).over(of_user)
        is_held = mine & (F.col("event_time") == last) & (first < last)
    else:
        is_held = mine & (_chance(context.seed + 1, "user_id", "item_id") < _CHANCES // _HELD)
    drawn = _chance(context.seed, "user_id") < F.lit(int(_CHANCES * _judged_share(events, config.validation.users)))
    marked = events.withColumn("held", F.coalesce(is_held & drawn, F.lit(False)))
    is_new = _chance(context.seed + 3, "item_id") < F.lit(int(_CHANCES * share_new))
    left = marked.where(~F.col("held") & ~is_new).drop("held")
    return Held(left, engagements(marked.where("held"), config), context.day)


def _judged_share(events: DataFrame, n_users: int) -> float:
    """The share of all users that about `n_users` are."""
    row: Any = events.agg(F.approx_count_distinct("user_id").alias("n")).first()
    return min(1.0, n_users / max(1, int(row["n"])))


def _chance(seed: int, *names: str) -> Column:
    """A number below _CHANCES for every row, by the hash of the columns `names`."""
    return F.pmod(F.xxhash64(*names, F.lit(seed)), F.lit(_CHANCES))


def _drawn(events: DataFrame, share: float, context: Context) -> DataFrame:
    """The events without a user, and those of a share of the users, who have about max_pairs pairs with items."""
    if share >= 1:
        return events
    return events.where(
        F.col("user_id").isNull() | (_chance(context.seed + 2, "user_id") < F.lit(int(_CHANCES * share)))
    )


def _fold(
    inputs: dict[str, DataFrame],
    later: DataFrame,
    context: Context,
    known: ItemFacts,
    had: np.ndarray | None,
    share: float,
) -> Fold:
    config, cutoff = context.config, context.cutoff
    interactions = fit_interactions(inputs, context)
    hidden = is_hidden(config.candidates, cutoff).alias("hidden")
    table = interactions.select(
        "user_idx", "item_idx", "weight", F.unix_micros("last_time").alias("time"), hidden
    ).toArrow()
    users, at = np.unique(table["user_idx"].to_numpy(), return_inverse=True)
    items = table["item_idx"].to_numpy()
    order = np.lexsort((items, at))
    columns = {name: table[name].to_numpy()[order] for name in ("weight", "time", "hidden")}
    rows = RowBlock(0, row_offsets(at, len(users)), items[order].astype(np.int32), columns)
    shown = shown_items(inputs, _with_attributes(config, known), cutoff).select("item_idx").toArrow()
    listed = np.zeros(known.n_items, bool)
    listed[shown["item_idx"].to_numpy()] = True
    if had is not None:
        listed[_surplus(had, rows.cols, context.seed)] = False
    targets = _targets(_indexed(later, inputs), users, rows, listed & known.known_at(cutoff))
    judged = np.flatnonzero(targets.lengths > 0)
    if len(judged) > config.validation.users:
        judged = np.sort(np.random.default_rng(context.seed).choice(judged, config.validation.users, replace=False))
    histories = _histories(inputs, users, context)
    of_items = known.texts, known.attributes
    log = TrialLog(rows, histories, *of_items, listed, judged, cutoff, context.seed % 2**32, share)
    shared = _shared(inputs, listed, context)
    k = min(LENGTH, config.candidates.k)
    return Fold(
        Judged(log, rows_of(targets, judged), shared, k), inputs | {"interactions": interactions}, context, users
    )


def _surplus(had: np.ndarray, cols: np.ndarray, seed: int) -> np.ndarray:
    """Some of the items that nobody has had, drawn by chance, int64: as many as are new only to the small run."""
    never = np.flatnonzero(~had)
    n_more = int(had.sum()) - len(np.unique(cols[had[cols]]))
    return np.random.default_rng(seed).permutation(never)[:n_more]


def _with_attributes(config: Config, known: ItemFacts) -> Config:
    """The settings under which every item that a trial of `als` can propose may be shown."""
    if known.attributes is None:
        return config
    return config.model_copy(update={"als": config.als.model_copy(update={"item_attributes": ATTRIBUTES})})


def _indexed(pairs: DataFrame, inputs: Mapping[str, DataFrame]) -> DataFrame:
    """`pairs` of known users and items, with user_idx and item_idx."""
    return pairs.join(inputs["item_index"].select("item_id", "item_idx"), on="item_id", how="inner").join(
        inputs["user_index"].select("user_id", "user_idx"), on="user_id", how="inner"
    )


def _targets(later: DataFrame, users: np.ndarray, rows: RowBlock, could_be_new: np.ndarray) -> Csr:
    """The items that every user of the log went on to, if somebody had them before or they are new and could be shown.

    Without items that are hidden from the user.  could_be_new: bool (n_items,).
    """
    n_items = len(could_be_new)
    table = later.select("user_idx", "item_idx").toArrow()
    user_idx, items = table["user_idx"].to_numpy(), table["item_idx"].to_numpy()
    had = (np.bincount(rows.cols, minlength=n_items) > 0) | could_be_new
    place = np.searchsorted(users, user_idx)
    known = (np.append(users, -1)[place] == user_idx) & had[items]
    cells = np.unique(place[known].astype(np.int64) * n_items + items[known])
    hidden = rows.kept(rows.columns["hidden"])
    seen = np.repeat(np.arange(len(users)), np.diff(hidden.indptr)) * n_items + hidden.cols
    cells = cells[~np.isin(cells, seen)]
    of_user, items = cells // n_items, cells % n_items
    return Csr(row_offsets(of_user, len(users)), items.astype(np.int32), np.ones(len(items), np.float32), n_items)


def _histories(inputs: Mapping[str, DataFrame], users: np.ndarray, context: Context) -> Histories | None:
    """The ordered histories of users, if their order is known and a source needs it."""
    config = context.config
    if config.events.clock == "none" or "successors" not in config.sources.enabled:
        return None
    params: Any = check_params(config)["successors"]
    known = known_events(inputs["events"], context.cutoff, config.interactions.window_days)
    table = (
        _indexed(known.where(is_positive(config.events.types)), inputs)
        .select("user_idx", "item_idx", F.unix_micros("event_time").alias("time"))
        .toArrow()
    )
    user_idx, items, times = (table[name].to_numpy() for name in ("user_idx", "item_idx", "time"))
    at = np.searchsorted(users, user_idx)
    return newest_histories(at, items, times, len(users), params.max_events_per_user)


def _shared(inputs: Mapping[str, DataFrame], listed: np.ndarray, context: Context) -> dict[str, Ranked]:
    """The popular lists for everybody, of what may be shown."""
    if "popular" not in context.config.sources.enabled:
        return {}
    params: Any = check_params(context.config)["popular"]
    params = params.model_copy(update={"lists": [name for name in params.lists if name != "segment"]})
    if not params.lists:
        return {}
    read = {name: inputs[name] for name in ("events", "item_index")}
    table = popular.generate(read | {"user_features": inputs["user_index"]}, params, context).lists.toArrow()
    found = {}
    for name, entries in zip(table["source"].to_pylist(), table["items"].to_pylist(), strict=True):
        items = np.array([one["item_idx"] for one in entries], np.int32)
        scores = np.array([one["score"] for one in entries], np.float32)
        kept = np.flatnonzero(listed[items])
        found[name] = Ranked(np.array([0, len(kept)]), items[kept], scores[kept])
    return dict(sorted(found.items()))


def held_out_words(found: list[Fold], context: Context, first: Any) -> str:
    """What was held out, in words."""
    match context.config.events.clock:
        case "order":
            return "the last event of drawn users"
        case "none":
            return "a tenth of what drawn users had"
    days = ", ".join(f"{one.context.day}" for one in found)
    return f"{window_of(context, first)} days from {days} on"


def others(found: list[Fold], config: Config) -> dict[str, list[Trial]]:
    """Sources that only Spark fits, as configured, on every fold; without those that need a table of a later step."""
    trials: dict[str, list[Trial]] = {}
    for name, params in check_params(config).items():
        source = load(name)
        if name in FITTED or name == "popular":
            continue
        fitted = []
        for fold in found:
            tables = {table: fold.inputs[table] for table in source.READS if table in fold.inputs}
            try:
                one = source.generate(tables, params, fold.context)
            except KeyError as err:
                _log.info("step=validate phase=others source=%s is not tried: it needs %s", name, err)
                break
            if not isinstance(one, Personal):
                break
            fitted.append(Trial(one.model, _vectors(one, fold), one.max_items, user_idx=fold.user_idx))
        if len(fitted) == len(found):
            trials[name] = fitted
    return trials


def _vectors(one: Personal, fold: Fold) -> np.ndarray | None:
    """The vectors of the judged users, zeros for users without one."""
    if one.vectors is None:
        return None
    wanted = fold.user_idx[fold.judged.log.judged]
    table = one.vectors.select("user_idx", "vector").where(F.col("user_idx").isin(wanted.tolist())).toArrow()
    matrix = matrix_of(table["vector"].combine_chunks())
    found = np.zeros((len(wanted), matrix.shape[1]), np.float32)
    found[np.searchsorted(wanted, table["user_idx"].to_numpy())] = matrix
    return found
