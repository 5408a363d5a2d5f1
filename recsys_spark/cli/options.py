"""Options that most commands share, the settings that they give together, and the parsing of dates.

Owns: `--profile`, `--config`, `--set` and the other shared options, and what is refused before Spark starts.
"""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, overload

import typer

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.errors import ArgumentError, NothingPublished

ProfileOption = Annotated[str, typer.Option("--profile", help="Settings profile in conf/.")]
FileOption = Annotated[Path | None, typer.Option("--config", help="Your settings; ./recsys.toml is found by itself.")]
DateOption = Annotated[str | None, typer.Option("--date", help="As-of day D: events before D 00:00 UTC count.")]
ForceOption = Annotated[list[str] | None, typer.Option("--force", help="Gate that may fail this once; repeatable.")]
WhyOption = Annotated[str, typer.Option("--why", help="Why a gate is forced; it is recorded in audits.")]
JsonOption = Annotated[bool, typer.Option("--json-logs", help="One JSON object a line instead of progress bars.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="section.key=value, over everything else.")]


def settings_of(profile: str, file: Path | None, sets: list[str] | None) -> Config:
    """The settings that the options give, checked, those of sources too; raises ConfigError or ArgumentError."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", profile):
        raise ArgumentError(f"--profile: expected the name of a file in conf/, got {profile[:80]!r}; for example local")
    own = Path("recsys.toml")
    config = load_config(profile, file or (own if own.is_file() else None), tuple(sets or ()))
    from recsys_spark.retrieval.declared import check_params

    check_params(config)
    return config


def published(config: Config) -> Config:
    """`config` itself; raises NothingPublished if it has no warehouse yet, before a lock makes its folder."""
    from recsys_spark.warehouse.current_publish import publishes_folder

    if not publishes_folder(config.root).exists():
        raise NothingPublished(
            f"{config.root}: expected a warehouse, got none; run `recsys-spark run`, or check [storage] root"
        )
    return config


@overload
def parse_day(text: str) -> date: ...
@overload
def parse_day(text: str | None) -> date | None: ...
def parse_day(text: str | None) -> date | None:
    """The day that `text` names; raises ArgumentError unless it is a real YYYY-MM-DD of today or before."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ArgumentError(f"--date: expected YYYY-MM-DD, got {text[:80]!r}; for example 2026-01-31")
    try:
        day = date.fromisoformat(text)
    except ValueError as err:
        raise ArgumentError(f"--date: expected a day of the calendar, got {text} ({err}); correct it") from err
    # Events of today are before tomorrow 00:00 UTC, so tomorrow is the last as-of day that a run can have.
    last = datetime.now(UTC).date() + timedelta(days=1)
    if day > last:
        raise ArgumentError(f"--date: expected a day up to {last}, got {text}; its events cannot have happened yet")
    return day
