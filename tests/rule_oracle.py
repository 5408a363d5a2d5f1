"""Small worlds of users, lists and rules, and the lists that a plain loop over one user at a time makes of them."""

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import prod

import numpy as np
from hypothesis import strategies as st

from recsys_spark.blend.compile_rules import Targets, compile_rules
from recsys_spark.blend.kernels.rules import Rules
from recsys_spark.ingest.rules import Rule

N_ITEMS = 12
IDS = [f"item {number}" for number in range(N_ITEMS)]
CATEGORIES = ["even", "odd"] * (N_ITEMS // 2)
CATALOGUE = Targets(np.arange(N_ITEMS, dtype=np.int32), IDS, CATEGORIES, [None] * N_ITEMS)
CUTOFF = datetime(2025, 1, 31, tzinfo=UTC)
SEGMENTS = (None, "DE", "FR", "IS")
RRF_K = 60

# Of an item: its index, fused score and reasons (list, rank, score).
Listed = list[tuple[int, float, list[tuple[str, int, float]]]]


@dataclass(frozen=True)
class User:
    """excluded: ascending.  own: the list `own`, best first."""

    segment: str | None
    excluded: tuple[int, ...]
    own: tuple[int, ...]


@dataclass(frozen=True)
class World:
    """near: the list `near` of segments; top: the list `top` for everybody.  All lists score 10, 9, 8 and so on."""

    users: tuple[User, ...]
    near: dict[str, tuple[int, ...]]
    top: tuple[int, ...]
    shown: frozenset[int]
    rules: tuple[Rule, ...]
    k: int


def compiled(rules: tuple[Rule, ...]) -> Rules | None:
    return compile_rules(rules, CATALOGUE, CUTOFF).rules


items = st.integers(0, N_ITEMS - 1)
lists = st.lists(items, unique=True).map(tuple)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    kind = draw(st.sampled_from(["block", "allow", "boost", "pin", "pin"]))
    segment = draw(st.sampled_from(SEGMENTS))
    rule = Rule("", kind, item_id=draw(st.sampled_from([*IDS, "unknown"])), segment=segment)
    if kind == "pin":
        return replace(rule, position=draw(st.integers(1, N_ITEMS + 2)))
    if kind == "boost":  # powers of two, so that products are exact
        rule = replace(rule, factor=draw(st.sampled_from([0.25, 0.5, 1.0, 2.0, 64.0])))
    if draw(st.integers(0, 3)) == 0:
        return replace(rule, item_id=None, category=draw(st.sampled_from(["even", "odd", "unknown"])))
    return rule


@st.composite
def worlds(draw: st.DrawFn) -> World:
    users = st.builds(User, st.sampled_from(SEGMENTS), st.sets(items, max_size=6).map(sorted).map(tuple), lists)
    drawn = draw(st.lists(rules(), max_size=8))
    names = draw(st.permutations([f"r{number}" for number in range(len(drawn))]))
    return World(
        users=tuple(draw(st.lists(users, min_size=1, max_size=4))),
        near=draw(st.dictionaries(st.sampled_from(SEGMENTS[1:]), lists)),
        top=draw(lists),
        shown=frozenset(range(N_ITEMS)) - draw(st.sets(items, max_size=3)),
        rules=tuple(replace(rule, rule_id=name) for rule, name in zip(drawn, names, strict=True)),
        k=draw(st.integers(1, N_ITEMS)),
    )


def admissible(world: World, user: User) -> set[int]:
    """What the user may be shown."""
    mine = [rule for rule in world.rules if rule.segment in (None, user.segment)]
    left = set(world.shown) - set(user.excluded)
    if any(rule.kind == "allow" for rule in mine):
        left &= {item for rule in mine if rule.kind == "allow" for item in targets(rule)}
    return left - {item for rule in mine if rule.kind == "block" for item in targets(rule)}


def expected(world: World, user: User) -> Listed:
    """The user's list."""
    mine = [rule for rule in world.rules if rule.segment in (None, user.segment)]
    left = admissible(world, user)
    totals: dict[int, int] = defaultdict(int)
    reasons: dict[int, list[tuple[str, int, float]]] = defaultdict(list)
    for name, one in (("near", world.near.get(user.segment or "", ())), ("own", user.own), ("top", world.top)):
        for rank, item in enumerate([item for item in one if item in left][: world.k], start=1):
            totals[item] += round(1 / (RRF_K + rank) * 2**40)
            reasons[item].append((name, rank, 10.0 - one.index(item)))
    boosts = sorted((rule for rule in mine if rule.kind == "boost"), key=lambda rule: rule.rule_id)
    for item in totals:
        acting = [rule for rule in boosts if item in targets(rule)]
        totals[item] = round(min(totals[item] * prod(rule.factor for rule in acting), 2**46))
        reasons[item] += [(f"rule/{rule.rule_id}", 1, rule.factor) for rule in acting]
    order = sorted(totals, key=lambda item: (-totals[item], item))
    pins = _pins(mine, left, world.k)
    rest = [item for item in order if item not in pins]
    length = min(world.k, len(pins) + len(rest))
    placed = _placed([rule.position for rule in pins.values()], length)
    at = dict(zip(placed, pins, strict=True))
    free = iter(rest)
    listed = [at[place] if place in at else next(free) for place in range(1, length + 1)]
    scores = [totals[item] / 2**40 if item in totals else 0.0 for item in listed]
    answer = []
    for place, item in enumerate(listed):
        why = list(reasons[item])
        why += [(f"rule/{pins[item].rule_id}", pins[item].position, 0.0)] if item in pins else []
        answer.append((item, max(scores[place:]), why))
    return answer


def targets(rule: Rule) -> list[int]:
    column, value = rule.target
    of_item = {"item_id": IDS, "category": CATEGORIES}[column]
    return [item for item in range(N_ITEMS) if of_item[item] == value]


def _pins(mine: list[Rule], left: set[int], k: int) -> dict[int, Rule]:
    """The pins that are placed, by item, in their order."""
    pins: dict[int, Rule] = {}
    ordered = sorted(
        (rule for rule in mine if rule.kind == "pin"),
        key=lambda rule: (rule.position, rule.segment is None, rule.rule_id.encode()),
    )
    for rule in ordered:
        for item in targets(rule):
            if item in left and item not in pins and len(pins) < k:
                pins[item] = rule
    return pins


def _placed(positions: list[int], length: int) -> list[int]:
    """Places from 1: the first free one from each position on, then from the last backwards as far as the list goes."""
    taken: list[int] = []
    for position in positions:
        place = position
        while place in taken:
            place += 1
        taken.append(place)
    for at in reversed(range(len(taken))):
        taken[at] = min(taken[at], length)
        length = taken[at] - 1
    return taken
