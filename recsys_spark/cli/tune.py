"""The command `recsys-spark tune`: hyperparameter search over a wide grid.

Owns: the options of that command.
"""

from pathlib import Path
from typing import Annotated

import typer

from recsys_spark.cli.console import Console
from recsys_spark.cli.options import FileOption, ProfileOption, SetOption, parse_day, settings_of

OutOption = Annotated[Path, typer.Option("--out", help="Settings file to write; it must not be there yet.")]
DateOption = Annotated[str, typer.Option("--date", help="As-of day; by default the day after the last event.")]


def tune(
    out: OutOption = Path("tuned.toml"),
    date_text: DateOption = "",
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
) -> None:
    """Search settings widely on what is held out of the log, and write those that found most; minutes to an hour."""
    config, console = settings_of(profile, file, sets), Console(json_logs=False)
    from recsys_spark.errors import ArgumentError
    from recsys_spark.ingest.clock import next_day
    from recsys_spark.operations.tune import tune, tuned_text, write_tuned
    from recsys_spark.spark.session import open_session

    if out.exists():
        raise ArgumentError(f"--out: expected a file that is not there yet, got {out}; move it away, or name another")
    day = parse_day(date_text) if date_text else next_day(config)
    spark = open_session("recsys-spark tune", config.root)
    try:
        with console.progress("tune") as observe:
            observe("tune", "start", {})
            made, held_out = tune(spark, config, day, lambda figures: observe("tune", "progress", figures))
            observe("tune", "done", {})
    finally:
        spark.stop()
    write_tuned(tuned_text(made, held_out), out)
    console.say(f"wrote {out} with {len(made.settings)} settings; look it over, then: recsys-spark run --config ...")
