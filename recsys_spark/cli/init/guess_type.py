"""Inference of what an event type means from its name: its role, a weight to start from, how its value counts.

Owns: the words of actions, and the weights that `recsys-spark init` proposes.
"""

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["engage", "impression", "dislike"]
ValueTransform = Literal["none", "log", "cap"]
ValueKind = Literal["", "quantity", "duration", "rating", "any"]


@dataclass(frozen=True)
class TypeGuess:
    """A type as the settings name it, with what it is guessed to mean.

    known: whether a word of the name was understood; if not, it is taken as a view.
    """

    name: str
    role: Role
    weight: float
    value_transform: ValueTransform
    why: str
    known: bool = True


@dataclass(frozen=True)
class _Meaning:
    """One meaning: words that a name must have, or stems that it must contain."""

    why: str
    weight: float
    words: frozenset[str]
    stems: tuple[str, ...] = ()
    role: Role = "engage"
    values: tuple[ValueKind, ...] = ()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The weights say how far an act commits: looking costs nothing (1), marking for later is rarer (3), paying is rarest
# (5).  An act that undoes another takes its weight away.  They are a start; hindsight on published lists gives better
# ones.
_MEANINGS = (
    _Meaning(
        "takes back a purchase",
        -5.0,
        _words("return returned returns refund refunded cancel cancelled canceled chargeback"),
        ("refund", "chargeback"),
        values=("quantity",),
    ),
    _Meaning(
        "the user does not want it",
        0.0,
        _words("dislike disliked hide hidden block blocked report spam downvote thumbsdown"),
        ("dislike", "notinterest", "thumbsdown", "downvote"),
        "dislike",
    ),
    _Meaning(
        "takes back a mark of interest",
        -3.0,
        _words("remove removed delete deleted unlike unfav unsave unfollow unsubscribe undo"),
        ("removefrom", "unlike", "unfav", "unsave"),
    ),
    _Meaning("passed over", -1.0, _words("skip skipped abandon abandoned")),
    _Meaning(
        "shown, not acted upon",
        0.0,
        _words("impression impressions imp impr show shown exposure exposed display displayed served"),
        ("impression", "exposure", "itemlist"),
        "impression",
    ),
    _Meaning(
        "paid or signed for",
        5.0,
        _words(
            "purchase purchased buy bought transaction transactions order ordered orders pay paid payment "
            "conversion convert sale sold invoice booking booked rent rented subscribe install download"
        ),
        ("purchase",),
        values=("quantity",),
    ),
    _Meaning(
        "a mark of interest",
        3.0,
        _words(
            "cart basket bag checkout wishlist favorite favourite fav like liked save saved bookmark star "
            "starred collect upvote thumbsup share shared follow followed comment commented repost retweet "
            "enroll"
        ),
        ("tocart", "tobasket", "wishlist", "favorite", "favourite", "checkout", "bookmark", "thumbsup", "upvote"),
        values=("quantity",),
    ),
    _Meaning(
        "a judgement",
        1.0,
        _words("rating ratings rate rated review reviewed reviews score stars"),
        values=("rating",),
    ),
    _Meaning(
        "looked at or used",
        1.0,
        _words(
            "view views viewed click clicks clicked pv visit visited open opened read browse tap detail "
            "details hit pageview select play played plays watch watched listen listened stream streamed "
            "complete completed finish finished dwell borrow"
        ),
        ("click", "pageview", "viewitem", "viewproduct", "itemview", "productview", "listen"),
        values=("duration",),
    ),
)


def guess_type(raw: str, value_kind: ValueKind, largest_value: float = 0.0) -> TypeGuess:
    """What the log's type `raw` means.

    value_kind: what the values of such events are: "" none, "any" what suits the type.
    largest_value: the highest rating of the sample.
    """
    name = type_name(raw)
    said = set(name.split("_"))
    joined = name.replace("_", "")
    for meaning in _MEANINGS:
        if said & meaning.words or any(stem in joined for stem in meaning.stems):
            counts = bool(meaning.values) and value_kind in (*meaning.values, "any")
            if counts and "rating" in meaning.values:
                # Scaled so that the highest rating weighs as much as one event of weight 1.
                return TypeGuess(name, meaning.role, 1 / max(largest_value, 1.0), "cap", meaning.why)
            return TypeGuess(name, meaning.role, meaning.weight, "log" if counts else "none", meaning.why)
    return TypeGuess(name, "engage", 1.0, "none", "not understood: taken as a view", known=False)


def type_name(raw: str) -> str:
    """`raw` as a name of the settings: lower case, digits and _, beginning with a letter, at most 64 long."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", raw)
    slug = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
    return (slug if slug[:1].isalpha() else f"type_{slug}".rstrip("_"))[:64]


def value_kind_of(name: str) -> ValueKind:
    """What a column that was taken for the value holds, by its name; "any" if that says nothing."""
    text = re.sub(r"[^a-z]", "", name.lower())
    for kind, stems in _VALUE_STEMS.items():
        if any(stem in text for stem in stems):
            return kind
    return "any"


_VALUE_STEMS: dict[ValueKind, tuple[str, ...]] = {
    "rating": ("rating", "stars", "overall", "score"),
    "duration": ("dwell", "duration", "watch", "played", "playtime", "second", "hour", "progress", "completion"),
    "quantity": ("quantity", "qty", "count", "units", "pieces", "numitems", "plays", "amount"),
}
