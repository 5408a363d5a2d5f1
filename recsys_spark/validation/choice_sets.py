"""Choice sets of judged users: the items that any source proposes, the scores of every source, and what users took.

Owns: the choice sets on which weights are fitted, the parts of judged users, and recall of lists by given totals.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys_spark.blend.kernels.fusion import best_of_users
from recsys_spark.blend.kernels.score_fusion import moments_of
from recsys_spark.blend.kernels.union import first_items, for_all_cells, union_cells
from recsys_spark.blend.kernels.walks import ITEM_BITS, RankedLists, cells_of, index_shared, walk_shared
from recsys_spark.numeric.ragged import Ragged, offsets
from recsys_spark.numeric.ranked import Ranked, ranked_of_rows
from recsys_spark.numeric.sparse import Csr, rows_of
from recsys_spark.retrieval.scorers import Scorer
from recsys_spark.validation.fits import Trial, TrialLog
from recsys_spark.validation.kernels.conditional_logit import Taken

SETTINGS, WEIGHTS, BLEND, KINDS = range(4)
# WEIGHTS and BLEND have a quarter of the users each, at most 2,500; all others are SETTINGS, which have most trials and
# cost least per user.  KINDS are the first 2,500 of SETTINGS.
_ONE_IN, _MOST = 4, 2500

# Sources that propose items that nobody has had yet: their scores of such items have a weight of their own.
OF_NEW = frozenset({"content"})
NEW = "/new"

_ITEM_MASK = (1 << ITEM_BITS) - 1


@dataclass(frozen=True)
class Judged:
    """The judged users of a small run.  targets: what every judged user went on to, (n_judged, n_items).

    shared: lists for everybody by name, one row each, only of items that lists may hold.  k: places of a list that
    count.  Judged users are cut into three parts, SETTINGS, WEIGHTS and BLEND, by what they judge.  KINDS are some of
    SETTINGS: kinds of a source are settings that are judged in a blend.
    """

    log: TrialLog
    targets: Csr
    shared: Mapping[str, Ranked]
    k: int

    def part(self, number: int) -> np.ndarray:
        """Places of the judged users of one part, int64, ascending."""
        order = np.random.default_rng(self.log.seed).permutation(len(self.log.judged))
        n = min(len(order) // _ONE_IN, _MOST)
        settings, weights, blend = np.split(order, [len(order) - 2 * n, len(order) - n])
        return np.sort((settings, weights, blend, settings[:_MOST])[number])

    def of_new_items(self) -> "Judged":
        """The same, with only the targets that nobody had had."""
        is_new = ~self.log.had[self.targets.indices]
        indptr = offsets(is_new)[self.targets.indptr]
        targets = Csr(indptr, self.targets.indices[is_new], self.targets.values[is_new], self.targets.n_cols)
        return replace(self, targets=targets)


def recall_of(judged: Judged, places: np.ndarray, rows: np.ndarray, lists: Ranked) -> np.ndarray:
    """Recall of the judged users at `places`, float64: the mean of recall@k and of recall@k/2.

    Settings that find as much among 20 may differ by a tenth among 10, and two depths are less noisy than one.
    List i is that of the user at places[rows[i]].
    """
    targets, lengths = rows_of(judged.targets, places), np.diff(lists.indptr)
    depth = np.arange(len(lists.indices)) - np.repeat(lists.indptr[:-1], lengths)
    near = depth < judged.k
    found = cells_of(np.repeat(rows, lengths)[near], lists.indices[near])
    is_hit = np.isin(found, cells_of(targets.rows, targets.indices))
    counts = 0.5 + 0.5 * (depth[near] < max(1, judged.k // 2))
    total = np.bincount(found[is_hit] >> ITEM_BITS, counts[is_hit], len(places))
    share: np.ndarray = total / np.maximum(targets.lengths, 1)
    return share


def recall_alone(judged: Judged, trial: Trial, places: np.ndarray) -> np.ndarray:
    """Recall of a source's own lists."""
    scorer = trial.scorer(judged.log, places)
    return recall_of(judged, places, scorer.places, scorer.lists(judged.k))


def recall_shared(judged: Judged, name: str, places: np.ndarray) -> np.ndarray:
    """Recall of a list for everybody, without what each user may not see."""
    hidden, shared, rows = _hidden(judged.log, places), judged.shared[name], np.arange(len(places))
    lists = index_shared(RankedLists(shared.indptr, shared.indices, shared.scores))
    excluded = Ragged(hidden.indptr, hidden.indices.astype(np.int64))
    walked = walk_shared(lists, np.zeros(len(places), np.int64), excluded, judged.k)
    lengths = (walked.items >= 0).sum(axis=1)
    return recall_of(judged, places, rows, ranked_of_rows(lengths, walked.items, walked.scores))


def columns_of(trials: Iterable[str], shared: Iterable[str]) -> tuple[str, ...]:
    """Names of the columns of a choice set: the trials, the shared lists, and scores of new items of some trials."""
    trials = tuple(trials)
    return (*trials, *shared, *(f"{name}{NEW}" for name in trials if name in OF_NEW))


def choice_sets(judged: Judged, trials: Mapping[str, Trial], part: int, depth: int) -> Taken:
    """For each user of a part the first `depth` items of every list, with the score of every list for them.

    Columns of the values: `columns_of`.
    """
    places = judged.part(part)
    log, scorers = judged.log, {name: one.scorer(judged.log, places) for name, one in trials.items()}
    listed = [(one.places, one.lists(depth)) for one in scorers.values()]
    shared = first_items(judged.shared.values(), depth)
    for_all = for_all_cells(len(places), shared, _hidden(log, places))
    cells = np.union1d(union_cells(listed, depth), for_all)
    users, items = cells >> ITEM_BITS, (cells & _ITEM_MASK).astype(np.int32)
    columns = [_said(scorer, users, items, len(places)) for scorer in scorers.values()]
    columns += [_standard(one, log)[items] for one in judged.shared.values()]
    is_new = ~log.had[items]
    for at, name in enumerate(trials):
        if name in OF_NEW:
            columns.append(np.where(is_new, columns[at], 0.0))
            columns[at] = np.where(is_new, 0.0, columns[at])
    targets = rows_of(judged.targets, places)
    return Taken(
        indptr=np.searchsorted(users, np.arange(len(places) + 1)),
        items=items,
        values=np.stack(columns, axis=1) if columns else np.zeros((len(cells), 0)),
        taken=np.isin(cells, cells_of(targets.rows, targets.indices)),
    )


def sets_by_fold(folds: Sequence[Judged], trials: Mapping[str, Sequence[Trial]], part: int, depth: int) -> list[Taken]:
    """The choice sets of a part of every fold; trials: of each source one a fold."""
    by_fold = [{name: fitted[at] for name, fitted in trials.items()} for at in range(len(folds))]
    return [choice_sets(fold, one, part, depth) for fold, one in zip(folds, by_fold, strict=True)]


def _standard(shared: Ranked, log: TrialLog) -> np.ndarray:
    """How far every item stands out in a list for everybody, float64 (n_items,), 0 for what it does not hold."""
    lists = RankedLists(shared.indptr, shared.indices, shared.scores)
    (mean,), (deviation,) = moments_of(lists, int(log.listed.sum()))
    found = np.zeros(log.n_items)
    if deviation > 0:
        found[shared.indices] = (shared.scores.astype(np.float64) - mean) / deviation
    return found


def _said(scorer: Scorer, users: np.ndarray, items: np.ndarray, n_users: int) -> np.ndarray:
    """Standard scores of all cells, float64, 0 without a score."""
    row_of = np.full(n_users, -1)
    row_of[scorer.places] = np.arange(len(scorer.places))
    known = np.flatnonzero(row_of[users] >= 0)
    mean, deviation = scorer.background()
    rows = row_of[users[known]]
    scores = scorer.scores(rows, items[known]).astype(np.float64)
    found = np.zeros(len(users))
    usable = ~np.isnan(scores) & (deviation[rows] > 0)
    at = rows[usable]
    found[known[usable]] = (scores[usable] - mean[at]) / deviation[at]
    return found


def _hidden(log: TrialLog, places: np.ndarray) -> Csr:
    block = log.rows.kept(log.rows.columns["hidden"])
    return rows_of(block.csr("weight", log.n_items), log.judged[places])


def joined(parts: Sequence[Taken]) -> Taken:
    """The choice sets of all parts."""
    lengths = np.concatenate([np.diff(one.indptr) for one in parts])
    indptr = offsets(lengths)
    return Taken(
        indptr, *(np.concatenate([getattr(one, name) for one in parts]) for name in ("items", "values", "taken"))
    )


def rrf_totals(values: np.ndarray, users: np.ndarray, rrf_k: int, weights: np.ndarray) -> np.ndarray:
    """Sums of weight / (rrf_k + rank) over the lists that score an item above 0, float64 (n,).

    values: (n, n_lists).  users: int64 (n,), ascending.  weights: of every list, float64 (n_lists,).
    """
    total, starts = np.zeros(len(values)), np.searchsorted(users, users)
    for column, weight in zip(values.T, weights, strict=True):
        order = np.lexsort((-column, users))
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order)) - starts + 1
        total += np.where(column > 0, weight / (rrf_k + ranks), 0.0)
    return total


def recall_by(judged: Judged, part: int, sets: Taken, totals: np.ndarray) -> np.ndarray:
    """Recall of a part's users by the k items of each choice set with the highest totals, float64 (n,)."""
    units = np.rint((totals - totals.min(initial=0.0)) * _UNITS).astype(np.int64)
    chosen, indptr = best_of_users(sets.users, units, len(sets.indptr) - 1, judged.k)
    lists = Ranked(indptr, sets.items[chosen], totals[chosen].astype(np.float32))
    return recall_of(judged, judged.part(part), np.arange(len(indptr) - 1), lists)


def recalls_by(
    folds: Sequence[Judged], part: int, sets: Sequence[Taken], totals_of: Callable[[Taken], np.ndarray]
) -> np.ndarray:
    """`recall_by` over all folds, one fold after the other, float64 (n,); sets: of the part, one a fold."""
    pairs = zip(folds, sets, strict=True)
    return np.concatenate([recall_by(fold, part, one, totals_of(one)) for fold, one in pairs])


_UNITS = 2.0**30
