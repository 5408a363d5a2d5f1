"""The command `recsys-spark backtest`: runs past dates and judges every list on what users did afterwards.

Owns: the options of that command.
"""

from pathlib import Path
from typing import Annotated

import typer

from recsys_spark.cli.console import Console
from recsys_spark.cli.options import (
    FileOption,
    ForceOption,
    ProfileOption,
    SetOption,
    WhyOption,
    parse_day,
    settings_of,
)
from recsys_spark.pipeline.gates.verdict import forced_gates

DatesOption = Annotated[list[str], typer.Option("--date", help="As-of day to run and judge; repeatable.")]
BeforeOption = Annotated[
    list[str] | None, typer.Option("--before", help="As-of day to run and not to judge, so that others start from it.")
]
FolderOption = Annotated[Path, typer.Option("--folder", help="Where the backtest keeps its runs and figures.")]
AgainstOption = Annotated[Path | None, typer.Option("--against", help="Folder of another backtest of the same dates.")]
WindowOption = Annotated[int, typer.Option("--window-days", min=1, max=365, help="Days from a date on to watch users.")]


def backtest(
    dates: DatesOption,
    before: BeforeOption = None,
    window_days: WindowOption = 28,
    folder: FolderOption = Path("recsys-backtest"),
    against: AgainstOption = None,
    force: ForceOption = None,
    why: WhyOption = "",
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
) -> None:
    """Run past dates as they would have run, and judge every list on what users did in the weeks after."""
    config, forced, console = settings_of(profile, file, sets), forced_gates(force or [], why), Console(json_logs=False)
    days, warm_up = ([parse_day(text) for text in texts] for texts in (dates, before or []))
    from recsys_spark.cli.views.backtest import show_backtest
    from recsys_spark.operations.backtest import Plan, backtest, read_figures
    from recsys_spark.spark.session import open_session

    plan = Plan(tuple(days), tuple(warm_up), window_days)
    others = read_figures(against, plan) if against else None
    spark = open_session("recsys-spark backtest", config.root, log_folder=folder)
    try:
        with console.progress("backtest") as observe:
            folds = backtest(spark, config, folder, plan, observe, forced)
    finally:
        spark.stop()
    show_backtest(folds, console, others)
