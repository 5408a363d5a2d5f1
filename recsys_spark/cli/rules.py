"""The commands `recsys-spark rules ...`: load and show the rules of the business, without Spark.

Owns: their options and what they print.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.cli.options import DateOption, FileOption, ProfileOption, SetOption, parse_day, settings_of

app = typer.Typer(
    help="Rules of the business: block, allow, pin, boost, windows of availability.", no_args_is_help=True
)


@app.command()
def load(
    path: Annotated[Path, typer.Argument(help="Rules as .csv or .jsonl; they replace all that there are.")],
    date_text: Annotated[
        str | None, typer.Option("--date", help="First as-of day that they hold for; today if none is given.")
    ] = None,
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
) -> None:
    """Check a file of rules and make it the set from a date on; nothing is taken in if any row has a fault."""
    config = settings_of(profile, file, sets)
    from recsys_spark.features.declared import declared_tables
    from recsys_spark.ingest.rules import take_in_rules
    from recsys_spark.warehouse.ledger import create_tables
    from recsys_spark.warehouse.locks import warehouse_lock

    valid_from = parse_day(date_text) or datetime.now(UTC).date()
    with warehouse_lock(config.root, "rules load"):
        create_tables(config.root, declared_tables().values())
        n_rules = take_in_rules(config.root, path, valid_from)
    Console(json_logs=False).say(f"{n_rules} rules hold for runs as of {valid_from} and later")


@app.command()
def show(
    date_text: DateOption = None, profile: ProfileOption = "local", file: FileOption = None, sets: SetOption = None
) -> None:
    """Show the rules that hold for a date, and which of them are in force then."""
    config, console = settings_of(profile, file, sets), Console(json_logs=False)
    from recsys_spark.ingest.rules import in_force, rules_of
    from recsys_spark.ingest.values import midnight

    day = parse_day(date_text) or datetime.now(UTC).date()
    set_id, rules = rules_of(config.root, day)
    active = set(in_force(rules, midnight(day)))
    table = Table("rule", "kind", "target", "segment", "value", "from", "to", "in force", "reason")
    for rule in rules:
        value = rule.position or rule.factor or ""
        window = [f"{time:%Y-%m-%d %H:%M}" if time else "" for time in (rule.starts_at, rule.ends_at)]
        texts = [rule.rule_id, rule.kind, "=".join(rule.target), rule.segment or "", str(value), *window]
        table.add_row(*map(escape, texts), "yes" if rule in active else "no", escape(rule.reason))
    if rules:
        console.rich.print(table)
    console.say(f"{len(rules)} rules as of {day}" + (f" (set {set_id})" if set_id else ""))
