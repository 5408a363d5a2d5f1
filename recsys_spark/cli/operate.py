"""Commands for operators of the pipeline: `backfill`, `ready`, `explain`, `doctor`, `package`.

Owns: their options and what they do.
"""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.cli.options import (
    FileOption,
    ForceOption,
    JsonOption,
    ProfileOption,
    SetOption,
    WhyOption,
    parse_day,
    settings_of,
)
from recsys_spark.cli.session import writing
from recsys_spark.errors import ArgumentError, EnvironmentFault, GateRefused
from recsys_spark.pipeline.gates.verdict import forced_gates

if TYPE_CHECKING:
    from recsys_spark.config.schema import Config


def backfill(
    first_text: Annotated[str, typer.Option("--from", help="First date.")],
    last_text: Annotated[str, typer.Option("--to", help="Last date, itself included.")],
    missing: Annotated[bool, typer.Option("--missing", help="Only dates without a completed run.")] = False,
    force: ForceOption = None,
    why: WhyOption = "",
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
    json_logs: JsonOption = False,
) -> None:
    """Run many dates in their order; one that a gate refuses does not stop those after it."""
    config = settings_of(profile, file, sets)
    first, last = parse_day(first_text), parse_day(last_text)
    forced, console = forced_gates(force or [], why), Console(json_logs)
    with writing(config, "backfill") as spark, console.progress("backfill") as observe:
        from recsys_spark.cli.backfill import backfill as run_dates
        from recsys_spark.cli.backfill import dates_to_run

        days = dates_to_run(config, first, last, missing)
        console.say(f"{len(days)} dates to run from {first} to {last}")
        run_dates(spark, config, days, console, observe, forced)


def ready(
    date_text: Annotated[str, typer.Option("--date", help="As-of day D.")],
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
) -> None:
    """Exit 0 if events of the day before D were accepted, 3 if not; for orchestrators that skip days without logs."""
    config, day = _with_tables(settings_of(profile, file, sets)), parse_day(date_text)
    from recsys_spark.warehouse.run_files import days_with_rows

    days = days_with_rows(config.root, "events")
    if day - timedelta(days=1) not in days and (config.events.is_timed or not days):
        before = f"the last are of {days[-1]}" if days else "there are none at all"
        raise GateRefused(f"ready: expected events on the day before {day}, got none, {before}; ingest its logs first")
    where = f"on the day before {day}" if config.events.is_timed else "in a log without times"
    Console(json_logs=False).say(f"there are events {where}")


def explain(
    run_id: Annotated[str, typer.Argument(help="Run to explain, as in `recsys-spark status`.")],
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
) -> None:
    """Show what went into a run, from which versions, what each step made of it, and every gate."""
    from recsys_spark.cli.views.explain import show_run

    show_run(_with_tables(settings_of(profile, file, sets)).root, run_id, Console(json_logs=False))


def doctor(profile: ProfileOption = "local", file: FileOption = None, sets: SetOption = None) -> None:
    """Look at this machine: Java, Spark, Delta, the warehouse, disk, cores, memory, caches, clock."""
    from recsys_spark.operations.doctor import examine

    console, table = Console(json_logs=False), Table("", "", "found", "what to do")
    findings = examine(settings_of(profile, file, sets))
    for one in findings:
        mark = "[red]✗[/red]" if one.remedy else "[green]✓[/green]"
        table.add_row(mark, one.name, escape(one.found), escape(one.remedy))
    console.rich.print(table)
    if faults := [one.name for one in findings if one.remedy]:
        raise EnvironmentFault(f"doctor: expected all that a run needs, got faults of {', '.join(faults)}; see above")


def package(
    folder: Annotated[Path, typer.Option("--out", help="Where the archive goes.")] = Path("dist"),
) -> None:
    """Pack the Python environment of executors into one archive, for spark-submit --archives."""
    from recsys_spark.operations.package import package as pack

    packed = pack(folder)
    Console(json_logs=False).say(
        f"{packed.path}: {packed.n_bytes / 1e6:,.0f} MB with {', '.join(packed.distributions)}; "
        f"give it as --archives {packed.path}#environment"
    )


def _with_tables(config: "Config") -> "Config":
    """`config` itself; ArgumentError if its warehouse has no tables yet."""
    if not (config.root / "tables" / "events").exists():
        raise ArgumentError(f"{config.root}: expected a warehouse, got none; ingest logs, or check [storage] root")
    return config
