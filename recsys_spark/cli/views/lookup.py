"""Output of `recsys-spark lookup` and `related`: what the current bundle holds for a user or beside an item; no Spark.

Owns: these views of the reader.
"""

from typing import Any

from rich.markup import escape
from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.serving.answers import Candidate
from recsys_spark.serving.bundle import Bundle, open_current
from recsys_spark.warehouse.location import Location

_RECENT = 10

_ORIGINS = {
    "user": "a list of their own",
    "segment": "no list of their own: the list of segment {segment}",
    "global": "no list of their own and no segment with one: the list for everybody",
}


def show_user(root: Location, user_id: str, n: int, segment: str | None, console: Console) -> None:
    """Prints what the current bundle holds for `user_id`: recent items, then the first `n` candidates."""
    show_user_of(open_current(root), user_id, n, segment, console)


def show_user_of(bundle: Bundle, user_id: str, n: int, segment: str | None, console: Console) -> None:
    """Prints what `bundle` holds for `user_id`."""
    features = bundle.user_features(user_id)
    found = bundle.candidates(user_id, segment=segment)
    recent = list(features["recent_items"])[:_RECENT] if features else []
    shown = found.items[:n]
    titles = bundle.item_features([*recent, *(one.item_id for one in shown)])
    known = f"segment {features['segment'] or 'unknown'}" if features else "unknown to this run"
    origin = _ORIGINS[found.origin].format(segment=segment or (features or {}).get("segment"))
    bundle_text = f"bundle {bundle.run_id} as of {bundle.data_date}"
    console.rich.print(f"[bold]{escape(user_id)}[/bold]: {escape(f'{known}; {origin}; {bundle_text}')}")
    if recent:
        console.rich.print(_recent_table(recent, titles))
    console.rich.print(_candidate_table(shown, titles, len(found.items)))


def show_related(root: Location, item_id: str, user_id: str | None, n: int, console: Console) -> None:
    """Prints the `n` items nearest to `item_id` in the current bundle, in the order of `user_id` if one is given."""
    show_related_of(open_current(root), item_id, user_id, n, console)


def show_related_of(bundle: Bundle, item_id: str, user_id: str | None, n: int, console: Console) -> None:
    """Prints the `n` items nearest to `item_id` in `bundle`."""
    found = bundle.related(item_id, user_id, n)
    titles = bundle.item_features([item_id, *(one.item_id for one in found)])
    known = _title(titles, item_id) or ("no title" if item_id in titles else "unknown to this run")
    whose = f", for {escape(user_id)}" if user_id else ""
    console.rich.print(f"[bold]{escape(item_id)}[/bold]: {known}; bundle {bundle.run_id} as of {bundle.data_date}")
    table = Table("rank", "item", "title", "score", title=f"Related items{whose} ({len(found)})")
    for one in found:
        table.add_row(str(one.rank), escape(one.item_id), _title(titles, one.item_id), f"{one.score:.4f}")
    console.rich.print(table)


def _recent_table(recent: list[str], titles: dict[str, dict[str, Any]]) -> Table:
    table = Table("item", "title", title="Recent items, newest first")
    for item_id in recent:
        table.add_row(escape(item_id), _title(titles, item_id))
    return table


def _candidate_table(shown: tuple[Candidate, ...], titles: dict[str, dict[str, Any]], stored: int) -> Table:
    table = Table("rank", "item", "title", "score", "because of", title=f"Candidates ({len(shown)} of {stored})")
    for one in shown:
        reasons = escape(", ".join(f"{source.source} #{source.rank}" for source in one.sources))
        table.add_row(str(one.rank), escape(one.item_id), _title(titles, one.item_id), f"{one.score:.4f}", reasons)
    return table


def _title(titles: dict[str, dict[str, Any]], item_id: str) -> str:
    return escape((titles.get(item_id) or {}).get("title") or "")
