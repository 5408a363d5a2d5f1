"""Schema inference: which feed a log file belongs to and what each of its columns means, by names and values.

Owns: the order of the evidence: a whole name, then the words of a name, then values.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from recsys_spark.cli.init.column_profile import Profile, words
from recsys_spark.cli.init.guess_type import guess_type
from recsys_spark.cli.init.spellings import FEED_WORDS, LOG_WORDS, ORDER, REQUIRED, RULES, ColumnRule, Feed, is_time


@dataclass(frozen=True)
class Found:
    """The log's column for one of ours, the evidence, and whether a person should look at it."""

    name: str
    why: str
    sure: bool = True


def guess_feed(path: str, columns: Mapping[str, Profile]) -> Feed | None:
    """The feed of a file by its columns, and by the words of its path where these leave a choice; None if none fits."""
    user, item, time = (_find(RULES["events"][ours], columns.values()) for ours in REQUIRED["events"])
    hint, is_log = _path_words(path)
    if hint is not None:
        own = {"items": item, "users": user}[hint]
        # A catalogue has one row per item or user; the row may still name another one, such as its maker or seller.
        if own is None or not (user and item and time) or columns[own.name].is_unique:
            return hint if own or "id" in _by_spelling(columns) else None
    if user and item:
        return "events"
    for feed, own in (("items", item), ("users", user)):
        if own and not is_log and columns[own.name].is_unique:
            return cast(Feed, feed)
    return "events" if time else None


def _path_words(path: str) -> tuple[Feed | None, bool]:
    """The catalogue that the path names, and whether it names a log; a word nearer to the file's name wins."""
    for part in reversed(re.split(r"[\\/]", path)):
        said = set(words(part.split(".")[0]))
        if said & LOG_WORDS:
            return None, True
        for feed, spoken in FEED_WORDS.items():
            if said & spoken:
                return feed, False
    return None, False


def guess_columns(feed: Feed, columns: Mapping[str, Profile]) -> dict[str, Found]:
    """Our column -> the log's, for each that can be inferred; a column of the log has one meaning."""
    free = dict(columns)
    found: dict[str, Found] = {}
    for tell in (_find_by_name, _find_by_values):
        for ours in RULES[feed]:
            one = None if ours in found else tell(feed, ours, free)
            if one:
                found[ours] = one
                free.pop(one.name)
    return {ours: found[ours] for ours in RULES[feed] if ours in found}


def find_order(columns: Mapping[str, Profile], taken: Collection[str]) -> Found | None:
    """The column that says which of a user's events came first, where no column has times; none of `taken`."""
    return _find(ORDER, [profile for profile in columns.values() if profile.name not in taken])


def _find_by_name(feed: Feed, ours: str, free: Mapping[str, Profile]) -> Found | None:
    return _find(RULES[feed][ours], free.values())


def _find(rule: ColumnRule, profiles: Iterable[Profile]) -> Found | None:
    """The column that `rule` fits best: by its whole name, else by two of its words."""
    named = {profile: "".join(words(profile.name)) for profile in profiles}
    for spelling in rule.spellings:
        for profile, name in named.items():
            if name == spelling and rule.check(profile):
                return Found(profile.name, f"by its name; {profile.evidence}")
    spoken = [profile for profile in named if _speaks_of(rule, profile.name) and rule.check(profile)]
    if not spoken:
        return None
    best = min(spoken, key=lambda profile: (len(words(profile.name)), -profile.n_distinct))
    return Found(best.name, f"by the words of its name; {best.evidence}", sure=len(spoken) == 1)


def _speaks_of(rule: ColumnRule, name: str) -> bool:
    said = words(name)
    return len(said) > 1 and said[-1] in rule.marks and bool(rule.things & set(said[:-1]))


def _find_by_values(feed: Feed, ours: str, free: Mapping[str, Profile]) -> Found | None:
    """A column whose name says nothing, inferred from its values; a person should always look at it."""
    if feed != "events":
        name = _by_spelling(free).get("id") if ours in REQUIRED[feed] else None
        return Found(name, f"the only id of a file of {feed}; {free[name].evidence}") if name else None
    candidates = list(free.values())
    if ours == "event_time":
        candidates = [profile for profile in candidates if is_time(profile)]
        why = "its values are times"
    elif ours in REQUIRED["events"]:
        candidates = [
            profile
            for profile in candidates
            if profile.is_id and not profile.is_kind and not profile.is_unique and not is_time(profile)
        ]
        why = "the only column left whose values can be ids that come again"
    elif ours == "event_type":
        candidates = [profile for profile in candidates if profile.is_kind and _names_events(profile)]
        why = "its values are names of actions"
    else:
        return None
    return Found(candidates[0].name, f"{why}; {candidates[0].evidence}", sure=False) if len(candidates) == 1 else None


def _names_events(profile: Profile) -> bool:
    distinct = set(profile.texts)
    return 2 * sum(guess_type(text, "").known for text in distinct) >= len(distinct)


def _by_spelling(columns: Mapping[str, Profile]) -> dict[str, str]:
    return {"".join(words(name)): name for name in columns}
