"""Compilation of business rules: from targets in the catalogue to sets of items per audience, which the blend applies.

Owns: which items a rule means, and how several rules combine.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from recsys_spark.blend.kernels.rules import EVERYBODY, Effects, Rules
from recsys_spark.blend.kernels.walks import ITEM_BITS, cells_of
from recsys_spark.ingest.rules import Rule, in_force


@dataclass(frozen=True)
class Targets:
    """The catalogue that targets are looked up in, one row per item: item_idx int32; the others text, None for none."""

    item_idx: np.ndarray
    item_id: Sequence[str | None]
    category: Sequence[str | None]
    brand: Sequence[str | None]


@dataclass(frozen=True)
class Compiled:
    """Rules at one cutoff.  rules: None if none changes a list.  n_in_force: how many rules are in force.

    without_items: ids of rules in force whose target no item has, in the order of their bytes.
    """

    rules: Rules | None
    n_in_force: int
    without_items: tuple[str, ...]


def compile_rules(rules: Sequence[Rule], catalogue: Targets, cutoff: datetime) -> Compiled:
    """The rules in force at `cutoff`, by item.  rules: as `parse_rules` gives them, each id once."""
    active = sorted(in_force(rules, cutoff), key=lambda rule: rule.rule_id)
    windows = [rule for rule in rules if rule.kind == "available"]
    acting = [rule for rule in active if rule.kind != "available"]
    items = _items_of([*acting, *windows], catalogue)
    named = {rule.segment for rule in (*acting, *windows) if rule.segment is not None}
    segments = tuple(sorted(named))
    audience_of: dict[str | None, int] = {None: EVERYBODY, **{name: at for at, name in enumerate(segments, start=1)}}
    cells = {rule: _cells(audience_of[rule.segment], items[rule.target]) for rule in (*acting, *windows)}
    open_now = _union(cells[rule] for rule in active if rule.kind == "available")
    shut = np.setdiff1d(_union(cells[rule] for rule in windows), open_now)
    restricted = np.zeros(len(segments) + 1, bool)
    restricted[[audience_of[rule.segment] for rule in acting if rule.kind == "allow"]] = True
    compiled = Rules(
        rule_ids=tuple(rule.rule_id for rule in acting),
        segments=segments,
        blocked=_union([shut, *(cells[rule] for rule in acting if rule.kind == "block")]),
        allowed=_union(cells[rule] for rule in acting if rule.kind == "allow"),
        restricted=restricted,
        boosts=_effects("boost", acting, cells),
        pins=_effects("pin", acting, cells),
    )
    without = tuple(rule.rule_id for rule in active if not len(items[rule.target]))
    return Compiled(compiled if acting or len(shut) else None, len(active), without)


def _items_of(rules: Iterable[Rule], catalogue: Targets) -> dict[tuple[str, str], np.ndarray]:
    """item_idx of the items of every target of `rules`, int32, empty for one that no item has."""
    found: dict[tuple[str, str], list[int]] = {rule.target: [] for rule in rules}
    for name in {name for name, _ in found}:
        for at, value in enumerate(getattr(catalogue, name)):
            places = found.get((name, value))
            if places is not None:
                places.append(at)
    return {target: catalogue.item_idx[np.array(places, np.int64)] for target, places in found.items()}


def _cells(audience: int, items: np.ndarray) -> np.ndarray:
    return cells_of(np.full(len(items), audience), items)


def _union(cells: Iterable[np.ndarray]) -> np.ndarray:
    """All cells, int64, ascending, each once."""
    union: np.ndarray = np.unique(np.concatenate([np.zeros(0, np.int64), *cells]))
    return union


def _effects(kind: str, acting: Sequence[Rule], cells: Mapping[Rule, np.ndarray]) -> Effects:
    """What the rules of one kind do; their numbers are their places in `acting`."""
    chosen = [(at, rule) for at, rule in enumerate(acting) if rule.kind == kind]
    lengths = [len(cells[rule]) for _, rule in chosen]
    laid = np.concatenate([np.zeros(0, np.int64), *(cells[rule] for _, rule in chosen)])
    return Effects(
        audiences=(laid >> ITEM_BITS).astype(np.int32),
        items=(laid & ((1 << ITEM_BITS) - 1)).astype(np.int32),
        rules=np.repeat(np.array([at for at, _ in chosen], np.int32), lengths),
        values=np.repeat(np.array([rule.factor or rule.position for _, rule in chosen], np.float64), lengths),
    )
