"""State of the blend in a Spark worker: the broadcast, and lists of users walked past what they may not see.

Owns: the form of the broadcast, the walk of every list of a block, and a worker's side of exploration: what may be
explored for each audience, and a block's lists with explored items.  What rules forbid a user counts as what they may
not see, so a list is walked past it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.blend.kernels.diversity import NO_TRAITS, NOTHING, Diversity, ItemTraits
from recsys_spark.blend.kernels.fusion import Fused, spread
from recsys_spark.blend.kernels.rules import EVERYBODY, RuleBook, Rules, may_see, open_rules, split_lists
from recsys_spark.blend.kernels.score_fusion import Fusion, Known, Moments, known_scores, moments_of
from recsys_spark.blend.kernels.walks import (
    RankedLists,
    SharedLists,
    Walked,
    admit,
    index_shared,
    is_admissible,
    keep_values,
    rows_of,
    walk_own,
    walk_shared,
)
from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import Ragged, offsets
from recsys_spark.numeric.sparse import entries_of
from recsys_spark.spark.arrow_lists import flat_of, indptr_of, lengths_of, ragged_of

if TYPE_CHECKING:
    from recsys_spark.blend.kernels.exploration import Samples


EXPLORE = "explore"  # what provenance calls the source of an explored item


_ALL = np.iinfo(np.int32).max
_DOUBLED = (
    "blend: expected one list per source and user, segment or everybody, got two; correct the source that made them "
    "(see its rows in source_candidates)"
)


@dataclass(frozen=True)
class Exploration:
    """The day's samples of fresh items, and the seed by which users take one of them."""

    samples: "Samples"
    seed: int


@dataclass(frozen=True)
class Exploring:
    """`Exploration` as a task holds it.  barred: the fresh items that each audience may not see, a row each."""

    exploration: Exploration
    barred: Ragged


def open_exploration(exploration: Exploration, book: RuleBook | None, n_audiences: int) -> Exploring:
    """Makes `exploration` ready for many blocks of users.  book: the rules in force; None: there are none."""
    if book is None:
        return Exploring(exploration, Ragged(np.zeros(n_audiences + 1, np.int64), np.zeros(0, np.int64)))
    exploration = replace(exploration, samples=_some(exploration.samples, book.shown[exploration.samples.items]))
    items = exploration.samples.items
    seen = np.vstack(
        [may_see(book.barred, np.full(len(items), audience), items) for audience in range(n_audiences)]
    )  # (n_audiences, n)
    lengths = (~seen).sum(axis=1)
    return Exploring(exploration, Ragged(offsets(lengths), items[np.nonzero(~seen)[1]]))


def explored_lists(
    fused: Fused,
    user_ids: Sequence[str],
    hidden: Sequence[Ragged],
    audiences: np.ndarray,
    exploring: Exploring,
    share: float,
    k: int,
    column: int,
) -> Fused:
    """`fused` with a share of its places given to fresh items, whose provenance is `column`.

    hidden: by user, what may not be explored for them.  audiences: int64 (n_users,).  What a list holds already is not
    explored.
    """
    # Compiled code, imported here: a worker that explores nothing need not wait a second for the compiler.
    from recsys_spark.blend.kernels.exploration import assign_samples, explore, slots, with_explored

    samples = exploring.exploration.samples
    ranks = slots(k, share)
    if not len(samples.items) or not len(ranks):
        return fused
    sample_of = assign_samples(user_ids, exploring.exploration.seed, len(samples.order))
    listed = Ragged(fused.indptr, fused.items.astype(np.int64))
    barred = _rows(exploring.barred, audiences)
    explored = explore(samples, sample_of, [*hidden, listed, barred], len(ranks))
    return with_explored(fused, explored, ranks, k, column)


def _some(samples: "Samples", kept: np.ndarray) -> "Samples":
    """The samples of the items where `kept`, bool (n,), is True, in their order."""
    number = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    order = number[samples.order]
    return replace(samples, items=samples.items[kept], order=order[order >= 0].reshape(len(order), int(kept.sum())))


def _rows(ragged: Ragged, rows: np.ndarray) -> Ragged:
    """The rows `rows` of `ragged`, some of them several times."""
    at, lengths = spread(ragged.indptr, rows)
    return Ragged(offsets(lengths), ragged.values[at])


@dataclass(frozen=True)
class Settings:
    """How lists are fused.  sources: all list names in their order; weights: one each.

    fusion: of scores; None: reciprocal ranks.  explore_share: the part of a list's places that explored items take.
    keeps_scores: walks keep all scores, for a fusion by other settings.
    """

    sources: tuple[str, ...]
    weights: tuple[float, ...]
    rrf_k: int
    k: int
    diversity: Diversity = NOTHING
    explore_share: float = 0.0
    fusion: Fusion | None = None
    keeps_scores: bool = False


@dataclass(frozen=True)
class SourceLists:
    """The lists that one source has for a block of users: their own, or shared ones with the list of every user.

    known: all scores of the source for these users, for a fusion of scores.
    """

    source: int
    walked: Walked
    list_of: np.ndarray | None = None
    known: Known | None = None


@dataclass(frozen=True)
class VisibleItems:
    """The items that may be shown, by ascending item_idx: item_idx int32 (n,), item_id string (n,)."""

    item_idx: np.ndarray
    item_id: pa.Array


@dataclass(frozen=True)
class BlendBroadcast:
    """All that a worker is sent.  List i of `lists`, admissible items only, is that of sources[i] for segments[i].

    rules: those in force at the run's cutoff; None: no rules.  traits: what `diversity` needs to know of all items.
    categories: names of the codes in `traits`, string.  exploration: the day's, None if nothing is explored.
    had: bool (n_items,), items with interactions of anybody; None where new items weigh as others do.
    """

    settings: Settings
    shown: VisibleItems
    sources: tuple[str, ...]
    segments: tuple[str | None, ...]
    lists: RankedLists
    rules: Rules | None = None
    traits: ItemTraits = NO_TRAITS
    categories: pa.Array | None = None
    exploration: Exploration | None = None
    had: np.ndarray | None = None


@dataclass(frozen=True)
class RuledState:
    """Rules as a task holds them.

    segments: those of `Rules`, string.  variants: int64 (n_audiences, n_lists), the list that an audience walks in
    place of a list of `BlendBroadcast`.
    """

    book: RuleBook
    segments: pa.Array
    variants: np.ndarray


@dataclass(frozen=True)
class BlendState:
    """`BlendBroadcast` as a task holds it, made once by `state_of`.

    names: of all lists, then of all rules, then of exploration, as provenance names them.
    places: int32 (n_items,), place of an item in `shown`, -1 if it may not be shown.  admissible: bool (n_items,).
    moments: of the scores of each list of `shared`.
    by_segment: per source the segments that have a list, and its position in `shared`.  for_all: per source the
    position of the list for everybody.
    """

    settings: Settings
    names: pa.Array
    item_id: pa.Array
    places: np.ndarray
    admissible: np.ndarray
    shared: SharedLists
    moments: Moments
    by_segment: dict[str, tuple[pa.Array, np.ndarray]]
    for_all: dict[str, int]
    ruled: RuledState | None
    traits: ItemTraits
    categories: pa.Array | None
    exploring: Exploring | None
    had: np.ndarray | None


def shared_lists(table: pa.Table, settings: Settings, shown: VisibleItems) -> BlendBroadcast:
    """The rows of `source_candidates` for segments and for everybody, less what may not be shown.

    table: source, segment (null: for everybody), items.  Raises KernelError if two rows have the same list.
    """
    ordered = table.sort_by([("source", "ascending"), ("segment", "ascending")])
    sources, segments = ordered["source"].to_pylist(), ordered["segment"].to_pylist()
    names = list(zip(sources, segments, strict=True))
    if len(set(names)) < len(names):
        raise KernelError(_DOUBLED)
    items = ordered["items"].combine_chunks()
    rows = items.flatten()
    item_idx, score = (pc.struct_field(rows, name).to_numpy(zero_copy_only=False) for name in ("item_idx", "score"))
    lists = RankedLists(indptr_of(items), item_idx, score)
    return BlendBroadcast(settings, shown, tuple(sources), tuple(segments), admit(lists, _places(shown) >= 0))


def walk_scopes(block: pa.RecordBatch, state: BlendState, k: int) -> list[SourceLists]:
    """The first k admissible items of every list of the block's users; own before segment before everybody."""
    excluded, audiences = ragged_of(block["excluded"]), audiences_of(block, state)
    scopes = [
        *_own_columns(block["own"], audiences, excluded, state, k),
        *_segment_columns(block["segment"], audiences, excluded, state, k),
        *_common_columns(audiences, excluded, state, k),
    ]
    scopes.sort(key=lambda scope: scope.source)
    return scopes


def audiences_of(block: pa.RecordBatch, state: BlendState) -> np.ndarray:
    """The audience of each user, int64 (n_users,), as in `blend.kernels.rules`; without rules all are EVERYBODY."""
    if state.ruled is None:
        return np.full(block.num_rows, EVERYBODY)
    found = pc.fill_null(pc.index_in(block["segment"], value_set=state.ruled.segments), -1)
    audiences: np.ndarray = found.to_numpy(zero_copy_only=False).astype(np.int64) + 1
    return audiences


def state_of(shared: BlendBroadcast) -> BlendState:
    """The state of a task, made from the broadcast."""
    by_segment = {}
    for source in sorted(set(shared.sources)):
        rows = [at for at, (name, segment) in enumerate(_names(shared)) if name == source and segment is not None]
        if rows:
            by_segment[source] = (pa.array([shared.segments[at] for at in rows], pa.string()), np.array(rows))
    for_all = {name: at for at, (name, segment) in enumerate(_names(shared)) if segment is None}
    places, lists, ruled = _places(shared.shown), shared.lists, None
    if shared.rules is not None:
        ruled, lists = _ruled(shared.rules, shared, places >= 0)
        places = np.where(ruled.book.shown, places, np.int32(-1))
    names = pa.array([*(shared.settings.sources or ("",)), *_rule_names(shared.rules), EXPLORE], pa.string())
    exploring = None
    if shared.exploration is not None:
        book, n_segments = (ruled.book, len(ruled.segments)) if ruled is not None else (None, 0)
        exploring = open_exploration(shared.exploration, book, n_segments + 1)
    shown_id = shared.shown.item_id
    moments = moments_of(lists, len(shared.shown.item_idx))
    sent = (
        places >= 0,
        index_shared(lists),
        moments,
        by_segment,
        for_all,
        ruled,
        shared.traits,
        shared.categories,
        exploring,
        shared.had,
    )
    return BlendState(shared.settings, names, shown_id, places, *sent)


def _ruled(rules: Rules, shared: BlendBroadcast, shown: np.ndarray) -> tuple[RuledState, RankedLists]:
    """The rules made ready, and the lists of `shared` with those that some audiences walk in their place."""
    book = open_rules(rules, shown)
    number = {segment: at + 1 for at, segment in enumerate(rules.segments)}
    audience_of = [-1 if segment is None else number.get(segment, EVERYBODY) for segment in shared.segments]
    lists, variants = split_lists(book, admit(shared.lists, book.shown), np.array(audience_of, np.int64))
    return RuledState(book, pa.array(rules.segments, pa.string()), variants), lists


def _rule_names(rules: Rules | None) -> list[str]:
    return [f"rule/{rule_id}" for rule_id in rules.rule_ids] if rules else []


def _names(shared: BlendBroadcast) -> list[tuple[str, str | None]]:
    return list(zip(shared.sources, shared.segments, strict=True))


def _places(shown: VisibleItems) -> np.ndarray:
    """Place of every item in `shown`, -1 if it is not there, int32 (largest item_idx + 1,)."""
    places = np.full(int(shown.item_idx.max(initial=-1)) + 1, -1, np.int32)
    places[shown.item_idx] = np.arange(len(shown.item_idx), dtype=np.int32)
    return places


def _own_columns(
    own: pa.Array, audiences: np.ndarray, excluded: Ragged, state: BlendState, k: int
) -> Iterator[SourceLists]:
    """One scope for every source that has a list for any user of the block."""
    rows = own.flatten()
    users = np.repeat(np.arange(len(own)), lengths_of(own))
    names = pa.array(state.settings.sources, pa.string())
    source_of = pc.index_in(pc.struct_field(rows, "source"), value_set=names).to_numpy(zero_copy_only=False)
    items, scores = pc.struct_field(rows, "item_idx"), pc.struct_field(rows, "score")
    lists = RankedLists(indptr_of(items), flat_of(items), flat_of(scores))
    seen = is_admissible(lists.items, state.admissible)
    if state.ruled is not None and state.ruled.book.barred is not None:
        walkers = np.repeat(audiences[users], np.diff(lists.indptr))[seen]
        seen[seen] = may_see(state.ruled.book.barred, walkers, lists.items[seen])
    n_own = pc.fill_null(pc.struct_field(rows, "n_own"), _ALL).to_numpy(zero_copy_only=False)
    is_own = Ragged(lists.indptr, lists.items).positions < np.repeat(n_own, np.diff(lists.indptr))
    full, lists = keep_values(lists, seen), keep_values(lists, seen & is_own)
    walked = walk_own(lists, users, excluded, k)
    for source in np.unique(source_of).tolist():
        chosen = np.flatnonzero(source_of == source)
        if (np.diff(users[chosen]) == 0).any():
            raise KernelError(_DOUBLED)
        of_users = rows_of(walked, users[chosen], chosen, len(own))
        known = None
        if state.settings.fusion is not None or state.settings.keeps_scores:
            known = _known(full, users, chosen, rows, len(own))
        yield SourceLists(int(source), of_users, known=known)


def _known(lists: RankedLists, users: np.ndarray, chosen: np.ndarray, rows: pa.Array, n_users: int) -> Known:
    """All scores of the chosen lists, also those after the first `n_own`, which are not walked."""
    indptr, places = entries_of(lists.indptr, chosen)
    owners = np.repeat(users[chosen], np.diff(indptr))
    moments = []
    for name in ("mean", "deviation"):
        of_users = np.full(n_users, np.nan)
        of_users[users[chosen]] = pc.struct_field(rows, name).to_numpy(zero_copy_only=False)[chosen]
        moments.append(of_users)
    return known_scores(owners, lists.items[places], lists.scores[places], *moments)


def _segment_columns(
    segments: pa.Array, audiences: np.ndarray, excluded: Ragged, state: BlendState, k: int
) -> Iterator[SourceLists]:
    for source, (names, rows) in state.by_segment.items():
        found = pc.fill_null(pc.index_in(segments, value_set=names), -1).to_numpy(zero_copy_only=False)
        list_of = _walked_lists(np.where(found >= 0, rows[found], -1), audiences, state)
        yield SourceLists(
            state.settings.sources.index(source), walk_shared(state.shared, list_of, excluded, k), list_of
        )


def _common_columns(audiences: np.ndarray, excluded: Ragged, state: BlendState, k: int) -> Iterator[SourceLists]:
    for source, row in state.for_all.items():
        list_of = _walked_lists(np.full(len(audiences), row), audiences, state)
        yield SourceLists(
            state.settings.sources.index(source), walk_shared(state.shared, list_of, excluded, k), list_of
        )


def _walked_lists(list_of: np.ndarray, audiences: np.ndarray, state: BlendState) -> np.ndarray:
    """The lists that users walk in place of `list_of`, int64 (n_users,), -1 for none."""
    if state.ruled is None:
        return list_of
    return np.where(list_of >= 0, state.ruled.variants[audiences, list_of], -1)
