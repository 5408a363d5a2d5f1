"""Preview of a sample: its rows as ingest would read them, by ingest's own parsers with the proposed settings.

Owns: what of a sample is shown before anything is written.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.markup import escape
from rich.table import Table

from recsys_spark.cli.init.sample import Kind
from recsys_spark.cli.init.spellings import Feed
from recsys_spark.config.schema import Config
from recsys_spark.config.settings_text import one_line
from recsys_spark.ingest.clock import usable_sources
from recsys_spark.ingest.parse_catalogue import CatalogueSpec, catalogue_columns, catalogue_parser
from recsys_spark.ingest.parse_event import EVENT_COLUMNS, EventSpec, event_parser
from recsys_spark.ingest.records import RowFault
from recsys_spark.ingest.values import to_datetime, to_us

_SHOWN_ROWS = 6
_LONGEST_CELL = 40
# Columns that only the product fills: a person cannot check them.
_HIDDEN = {"event_key", "ds", "content_sha256", "dated_by_file", "vectors"}
_TIMES = {"event_time", "created_at", "valid_from"}


@dataclass(frozen=True)
class Preview:
    """The parsed sample of one feed.

    rows: some of the parsed rows.  n_parsed: all of them.  refused: lines by the reason of their refusal, each with an
    example.  pairs: user and item of the parsed rows, of events alone.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    n_parsed: int
    refused: Counter[str]
    examples: dict[str, str]
    pairs: frozenset[tuple[str, str]]


def preview_feed(config: Config, feed: Feed, kinds: Iterable[Kind]) -> Preview:
    """The sample, parsed; a few rows of each kind of file are kept."""
    columns = EVENT_COLUMNS if feed == "events" else catalogue_columns(_KEYS[feed])
    rows: list[tuple[Any, ...]] = []
    n_parsed = 0
    refused: Counter[str] = Counter()
    examples: dict[str, str] = {}
    pairs: set[tuple[str, str]] = set()
    user_at, item_at = (columns.index(name) if feed == "events" else 0 for name in ("user_id", "item_id"))
    kinds = list(kinds)
    for kind in kinds:
        parse = _parser(config, feed, kind.as_text)
        parsed = []
        for line, fields in enumerate(kind.rows):
            try:
                parsed.append(parse(fields, line))
            except RowFault as fault:
                refused[fault.reason] += 1
                examples.setdefault(fault.reason, fault.detail)
        n_parsed += len(parsed)
        if feed == "events":
            pairs |= {(row[user_at], row[item_at]) for row in parsed if row[user_at] is not None}
        # Spread over the sample, because the first lines of a log are often alike.
        rows += parsed[:: max(1, len(parsed) * len(kinds) // _SHOWN_ROWS)]
    return Preview(columns, tuple(rows[:_SHOWN_ROWS]), n_parsed, refused, examples, frozenset(pairs))


def shape_line(config: Config, preview: Preview, has_items: bool) -> str:
    """What the sample of an event log is like, and what a run makes of such a log."""
    users, items = ({pair[at] for pair in preview.pairs} for at in (0, 1))
    way = f"a run uses {', '.join(config.sources.enabled)}"
    if "sources.enabled" in config.validation.auto:
        sources = ", ".join(usable_sources(config, config.events.clock, has_items))
        way = f"a run tries {sources}, and chooses their settings and blend by what it holds out"
    return (
        f"the sample: {preview.n_parsed:,} events, {len(users):,} users, {len(items):,} items, "
        f"{len(preview.pairs):,} pairs; {config.events.clock_words}; {way}"
    )


_KEYS: dict[str, str] = {"items": "item_id", "users": "user_id"}


def _parser(config: Config, feed: Feed, as_text: bool) -> Callable[[dict[str, Any], int], tuple[Any, ...]]:
    if feed == "events":
        latest = to_us(datetime.now(UTC) + timedelta(hours=1))
        return event_parser(EventSpec(config.events, latest, None), as_text)
    section = config.items if feed == "items" else config.users
    return catalogue_parser(CatalogueSpec(section, _KEYS[feed]), as_text, default_us=0)


def preview_table(feed: Feed, preview: Preview) -> Table:
    """The kept rows under our column names; columns that are empty in all of them are left out."""
    filled = [
        at
        for at, name in enumerate(preview.columns)
        if name not in _HIDDEN and any(row[at] not in (None, "") for row in preview.rows)
    ]
    # A snapshot without a date of its own is dated by its path or its arrival, which is not known here.
    filled = [at for at in filled if preview.columns[at] != "valid_from" or any(row[at] for row in preview.rows)]
    names = [preview.columns[at] for at in filled]
    table = Table(*names, title=f"{feed}, as they would be read", title_justify="left")
    for row in preview.rows:
        table.add_row(*(escape(_cell(preview.columns[at], row[at])) for at in filled))
    return table


def preview_notes(feed: Feed, preview: Preview) -> list[str]:
    """How many lines of the sample would be refused, and why."""
    n_rows = preview.n_parsed + sum(preview.refused.values())
    return [
        f"{feed}: {n} of {n_rows} lines of the sample would be refused as {reason} ({preview.examples[reason]})"
        for reason, n in preview.refused.most_common()
        if reason != "skipped_type"
    ]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _TIMES:
        return f"{to_datetime(value):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list):
        value = ", ".join(f"{one[0]}={one[1]}" if isinstance(one, tuple) else str(one) for one in value)
    return one_line(f"{value:g}" if isinstance(value, float) else str(value))[:_LONGEST_CELL]
