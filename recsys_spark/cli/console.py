"""The console of a command: progress bars and tables for people, one JSON object per line for machines.

Owns: `Console` and its two forms of output.  Each command makes one and gives it to everything that reports progress.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import rich.console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from recsys_spark.pipeline.log_context import where
from recsys_spark.plan import PLAN

if TYPE_CHECKING:
    from recsys_spark.plan import Observer


class Console:
    """Says things to a person, or writes them as JSON lines if `json_logs`."""

    def __init__(self, json_logs: bool) -> None:
        self.json_logs = json_logs
        self.rich = rich.console.Console(stderr=json_logs, highlight=False, emoji=False)
        if json_logs:
            _log_as_json()

    def say(self, text: str, **fields: Any) -> None:
        """One line for a person, or an object with `event` and `fields`."""
        if self.json_logs:
            _write_json({"event": text, **fields})
        else:
            self.rich.print(text, markup=False)  # column names and paths may look like markup

    def warn(self, text: str) -> None:
        """One line that a person should not miss."""
        if self.json_logs:
            _write_json({"event": "warning", "warning": text})
        else:
            self.rich.print(f"[yellow]warning[/yellow] {escape(text)}")

    @contextmanager
    def progress(self, command: str) -> "Iterator[Observer]":
        """An observer that shows each step with its time and rows while the block runs."""
        if self.json_logs:
            yield lambda step, phase, figures: _write_json({"event": f"step {phase}", "step": step, **figures})
            return
        columns = (SpinnerColumn(finished_text="[green]✓[/green]"), TextColumn("{task.description:<14}"))
        with Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[rows]}"), console=self.rich) as bars:
            tasks: dict[str, Any] = {}

            def observe(step: str, phase: str, figures: dict[str, float]) -> None:
                if phase == "start":
                    tasks[step] = bars.add_task(_position(step), total=1, rows="")
                elif phase == "progress":
                    bars.update(tasks[step], rows=_so_far(figures))
                else:
                    bars.update(tasks[step], completed=1, rows=_shown(figures))

            yield observe

    def ingested(self, report: Any) -> None:
        """The accounting of an ingest: files, lines, and where they went."""
        for line in report.lines():
            self.say(line)
        for warning in report.warnings:
            self.warn(warning)

    def finished(self, report: Any, of: str = "") -> None:
        """What became of a run, what it chose, and what it warns of; `of` tells whose these are."""
        for warning in report.warnings:
            self.warn(f"{of}{warning}")
        for note in report.notes:
            self.say(f"{of}{note}")
        text = {
            "published": f"published {report.run_id} as of {report.data_date}",
            "backfilled": f"{report.run_id} is complete; a later date is current and stays so",
            "unchanged": f"nothing to do: {report.run_id} holds the same inputs, settings and code; no row was added",
            "open": f"{report.run_id} is open",
        }[report.outcome]
        self.say(text, run_id=report.run_id, outcome=report.outcome)


def _position(step: str) -> str:
    names = [one.name for one in PLAN if one.in_run]
    return f"{names.index(step) + 1}/{len(names)} {step}" if step in names else step


def _so_far(figures: dict[str, float]) -> str:
    """How far a step is, and what it says beside that."""
    share = figures.get("done", 0.0) / max(1.0, figures.get("of", 0.0))
    others = {name: value for name, value in figures.items() if name not in ("done", "of")}
    return f"{share:.0%}  " + "  ".join(f"{name} {value:,.4g}" for name, value in others.items())


def _shown(figures: dict[str, float]) -> str:
    rows = {name.removeprefix("rows:"): value for name, value in figures.items() if name.startswith("rows:")}
    return "  ".join(f"{name} {value:,.0f}" for name, value in rows.items())


def _write_json(fields: dict[str, Any]) -> None:
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **where(), **fields}
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


class _JsonHandler(logging.Handler):
    """Log records of the product as JSON lines."""

    def emit(self, record: logging.LogRecord) -> None:
        _write_json({"event": "log", "level": record.levelname, "logger": record.name, "message": record.getMessage()})


def _log_as_json() -> None:
    logger = logging.getLogger("recsys_spark")
    logger.handlers = [_JsonHandler()]
    logger.setLevel(logging.INFO)
    logger.propagate = False
