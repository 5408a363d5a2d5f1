"""Fallback levels of a service: the first level that has items for a user, known or not, answers and is counted.

Owns: the order of the levels, called rungs, and their counts.

1. `list`: the list that the run made for the user.
2. `events`: the session's events are folded into the factors of items.
3. `features`: the user tower embeds what is known of the user, and the items nearest to it are taken.
4. `segment`: what is popular in the user's segment.
5. `everybody`: what is popular with all.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from recsys_spark.errors import ArgumentError
from recsys_spark.serving.answers import Scored, check_k
from recsys_spark.serving.bundle import Bundle

Rung = Literal["list", "events", "features", "segment", "everybody"]

_ORIGINS: dict[str, Rung] = {"user": "list", "segment": "segment", "global": "everybody"}


@dataclass(frozen=True)
class Recommended:
    """Items, best first, and the rung that they are from; scores of different rungs are not comparable."""

    rung: Rung
    items: tuple[Scored, ...]


class Ladder:
    """The ladder over one bundle.  counts: how often each rung answered, for a service to publish."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._has_towers = bundle.read_table("two_tower_models", ("model_version",)).num_rows > 0
        self.counts: Counter[Rung] = Counter()

    def recommend(
        self,
        user_id: str,
        *,
        events: Iterable[tuple[str, float]] = (),
        features: Mapping[str, Any] | None = None,
        segment: str | None = None,
        k: int = 50,
    ) -> Recommended:
        """The `k` best items for a user, at most.

        events: what the user did in this session, (item, weight); these items are not among the answer.  features: by
        the names in [two_tower] user_features.  segment: of a user of whom the run knows none.  A user with a list gets
        it whatever else is given: what the run knows of them is more than a session.  An empty answer of rung `list` is
        that of a user who has seen everything.
        Raises ArgumentError as the reader does, for ids, weights, features or a k that are not valid.
        """
        check_k("recommend", k)
        given = list(events)
        if wrong := [weight for _, weight in given if not isfinite(weight)]:
            raise ArgumentError(f"recommend: expected finite weights of events, got {wrong[0]}; leave such events out")
        found = self._climb(user_id, given, features, segment, k)
        self.counts[found.rung] += 1
        return found

    def _climb(
        self,
        user_id: str,
        events: list[tuple[str, float]],
        features: Mapping[str, Any] | None,
        segment: str | None,
        k: int,
    ) -> Recommended:
        had = {item_id for item_id, _ in events}
        listed = self._bundle.candidates(user_id, segment)
        own = [one for one in listed.items if one.item_id not in had]
        stored = tuple(Scored(one.item_id, rank, one.score) for rank, one in enumerate(own[:k], 1))
        if listed.origin == "user" and stored:
            return Recommended("list", stored)
        if events and (session := self._bundle.fold_in(events, k)):
            return Recommended("events", session)
        if features is not None and self._has_towers:
            vector = self._bundle.encode_user(features, [item_id for item_id, _ in reversed(events)])
            if vector.any() and (near := self._bundle.nearest(vector, k, had)):
                return Recommended("features", near)
        return Recommended(_ORIGINS[listed.origin], stored)
