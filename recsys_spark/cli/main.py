"""The command `recsys-spark`: arguments in, exit code out; the work is done by the modules that it names.

Owns: the commands, their options and the exit codes, and `named_fault`, which finds the fault that a worker raised in
the error of Spark that wraps it.  Heavy imports stay inside the commands, so that a wrong setting is refused in well
under two seconds.
"""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys_spark import errors
from recsys_spark.cli import airflow, backtest, operate, rules, size, tune
from recsys_spark.cli import index as cli_index
from recsys_spark.cli.console import Console
from recsys_spark.cli.options import (
    DateOption,
    FileOption,
    ForceOption,
    JsonOption,
    ProfileOption,
    SetOption,
    WhyOption,
    parse_day,
    published,
    settings_of,
)
from recsys_spark.cli.session import writing
from recsys_spark.errors import EXIT_DONE, ArgumentError, RecsysError, missing_extra
from recsys_spark.pipeline.gates.verdict import forced_gates

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys_spark.config.schema import Config
    from recsys_spark.plan import Observer

# The last line, or lines, of a traceback as Spark quotes it; a blank line and the JVM's own traceback follow.
_FAULT = re.compile(
    r"^(?:.*: )?recsys_spark\.errors\.(\w+): (.*?)(?=\n\s*\n|\n\s+at |\nDriver stacktrace|\Z)", re.M | re.S
)


app = typer.Typer(
    help="From engagement logs to published recommendations, every day.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
SegmentOption = Annotated[str | None, typer.Option("--segment", help="Segment of a user whom the run does not know.")]
FolderOption = Annotated[Path, typer.Option("--folder", help="Where the demo's logs and warehouse go.")]
TowersOption = Annotated[bool, typer.Option("--towers", help="With the two-tower model; needs torch.")]
HistoryOption = Annotated[bool, typer.Option("--history", help="Accept events of any age.")]


def named_fault(err: Exception) -> RecsysError | None:
    """The fault that a worker raised and `err` reports; None if it reports none.

    Of faults that were raised one from another it is the last.
    """
    found = _FAULT.findall(str(err))
    if not found:
        return None
    name, text = found[-1]
    kind = getattr(errors, name, None)
    is_fault = isinstance(kind, type) and issubclass(kind, RecsysError)
    return kind(text.strip()) if is_fault and kind is not None else None


app.add_typer(cli_index.app, name="index")
app.add_typer(rules.app, name="rules")


@app.command()
def init(
    logs: Annotated[Path, typer.Argument(help="Folder with your logs.")],
    out: Annotated[Path, typer.Option("--out", help="Settings file to write.")] = Path("recsys.toml"),
) -> None:
    """Look at a folder of logs, show a few rows as they would be read, and write a commented settings file."""
    from recsys_spark.cli.init.write_settings import write_settings

    write_settings(logs, out, Console(json_logs=False))


@app.command()
def run(
    date_text: DateOption = None,
    history: HistoryOption = False,
    force: ForceOption = None,
    why: WhyOption = "",
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
    json_logs: JsonOption = False,
) -> None:
    """Ingest what is new, then run and publish one date (by default the day after the last event)."""
    config = settings_of(profile, file, sets)
    day, forced, console = parse_day(date_text), forced_gates(force or [], why), Console(json_logs)
    with writing(config, "run") as spark, console.progress("run") as observe:
        from recsys_spark.pipeline.runner import run_day

        _ingest_all(spark, config, console, history, observe)
        console.finished(run_day(spark, config, day, observe, forced))


@app.command()
def ingest(
    history: HistoryOption = False,
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
    json_logs: JsonOption = False,
) -> None:
    """Take in new event logs and catalogue snapshots, exactly once, without running a date."""
    config = settings_of(profile, file, sets)
    console = Console(json_logs)
    with writing(config, "ingest") as spark, console.progress("ingest") as observe:
        _ingest_all(spark, config, console, history, observe)


@app.command()
def step(
    name: Annotated[str, typer.Argument(help="Step of the plan.")],
    date_text: DateOption = None,
    force: ForceOption = None,
    why: WhyOption = "",
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
    json_logs: JsonOption = False,
) -> None:
    """Run one step of the open run of a date; `ingest` and `catalog` need no date."""
    from recsys_spark.plan import PLAN

    if name not in {one.name for one in PLAN}:
        names = ", ".join(one.name for one in PLAN)
        raise ArgumentError(f"step: expected one of {names}, got {name[:80]!r}; correct the name")
    config = settings_of(profile, file, sets)
    day, forced, console = parse_day(date_text), forced_gates(force or [], why), Console(json_logs)
    # Publish and the steps that ingest hold the warehouse alone; the others write tables of their own.
    alone = name in ("ingest", "catalog", "publish")
    with writing(config, f"step {name}", None if alone else name) as spark, console.progress(name) as observe:
        if name in ("ingest", "catalog"):
            _ingest_one(spark, config, console, name, False, observe)
            return
        from recsys_spark.ingest.clock import next_day
        from recsys_spark.pipeline.runner import join_run

        console.finished(join_run(spark, config, day or next_day(config), name, observe, forced))


@app.command()
def status(profile: ProfileOption = "local", file: FileOption = None, sets: SetOption = None) -> None:
    """Show what is current, the last runs with their steps and gates, and the last ingest batches."""
    from recsys_spark.cli.views.status import show_status

    show_status(settings_of(profile, file, sets).root, Console(json_logs=False))


@app.command()
def lookup(
    user: Annotated[str, typer.Argument(help="User id as it is in the logs.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Candidates to show.")] = 20,
    segment: SegmentOption = None,
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
) -> None:
    """Show a user's recent items and published candidates, with titles and the lists that proposed them."""
    from recsys_spark.cli.views.lookup import show_user

    show_user(settings_of(profile, file, sets).root, user, n, segment, Console(json_logs=False))


@app.command()
def related(
    item: Annotated[str, typer.Argument(help="Item id as it is in the logs.")],
    user: Annotated[str | None, typer.Option("--user", help="User whose recent items set the order.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Items to show.")] = 20,
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
) -> None:
    """Show the items nearest to an item, with titles; with --user in the order of that user."""
    from recsys_spark.cli.views.lookup import show_related

    show_related(settings_of(profile, file, sets).root, item, user, n, Console(json_logs=False))


@app.command()
def rollback(
    to: Annotated[str, typer.Option("--to", help="Run to make current again.")],
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
) -> None:
    """Make an earlier published run current again, by one row and without Spark."""
    from recsys_spark.pipeline.publish import rollback_to
    from recsys_spark.warehouse.locks import warehouse_lock
    from recsys_spark.warehouse.run_id import check_run_id

    check_run_id(to)  # before the lock, which makes the folder of the warehouse
    config = published(settings_of(profile, file, sets))
    with warehouse_lock(config.root, "rollback"):
        sequence = rollback_to(config, to)
    Console(json_logs=False).say(f"{to} is current again (publish {sequence})")


@app.command()
def gc(profile: ProfileOption = "local", file: FileOption = None, sets: SetOption = None) -> None:
    """Delete bundles that nobody can be reading any more, and the files behind them."""
    config = published(settings_of(profile, file, sets))
    from recsys_spark.pipeline.gc import collect
    from recsys_spark.warehouse.locks import warehouse_lock

    with warehouse_lock(config.root, "gc"):
        report = collect(config, datetime.now(UTC))
    Console(json_logs=False).say(
        f"removed the rows of {len(report.runs)} runs and {report.n_files} files; kept {len(report.kept)} runs"
    )


@app.command()
def demo(
    folder: FolderOption = Path("recsys-demo"),
    towers: TowersOption = False,
) -> None:
    """Run the whole product on two years of a real shop's log, and measure what it published."""
    from recsys_spark.cli.demo.story import run_demo

    run_demo(Console(json_logs=False), folder, towers)


@app.command()
def reference() -> None:
    """Print the reference of all tables with their columns, as in recsys_spark/warehouse/TABLES.md."""
    from recsys_spark.cli.reference import reference_text

    sys.stdout.write(reference_text())


app.command()(size.size)
app.command()(backtest.backtest)
app.command()(tune.tune)
app.command()(airflow.airflow)
for command in (
    operate.backfill,
    operate.ready,
    operate.explain,
    operate.doctor,
    operate.package,
):
    app.command()(command)


def _ingest_all(spark: "SparkSession", config: "Config", console: Console, history: bool, observe: "Observer") -> None:
    for name in ("catalog", "ingest"):
        _ingest_one(spark, config, console, name, history, observe)


def _ingest_one(
    spark: "SparkSession", config: "Config", console: Console, name: str, history: bool, observe: "Observer"
) -> None:
    from recsys_spark.ingest.step_ingest import ingest, ingest_catalogue

    if name == "catalog":
        console.ingested(ingest_catalogue(spark, config, progress=observe))
    else:
        console.ingested(ingest(spark, config, history=history, progress=observe))


def _say_fault(text: str) -> None:
    """Writes a fault to stderr; control characters, and characters that a terminal cannot show, are escaped."""
    safe = "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)
    sys.stderr.write(f"{safe}\n")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code; a named fault is one line on stderr, a crash keeps its traceback."""
    try:
        app(args=arguments, prog_name="recsys-spark", standalone_mode=False)
    except RecsysError as err:
        _say_fault(str(err))
        return err.exit_code
    except typer.Exit as err:
        return int(err.exit_code)
    except Exception as err:
        if hasattr(err, "exit_code") and hasattr(err, "format_message"):  # a usage error of the command line
            _say_fault(err.format_message())
            return int(err.exit_code)
        fault = named_fault(err)
        if fault is None and isinstance(err, ModuleNotFoundError):
            fault = missing_extra(" ".join(["recsys-spark", *(arguments or sys.argv[1:])[:1]]), err)
        if fault is None:
            raise
        _say_fault(str(fault))
        return fault.exit_code
    return EXIT_DONE
