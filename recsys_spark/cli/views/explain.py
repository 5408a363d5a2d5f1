"""Output of `recsys-spark explain RUN`: inputs, settings, steps, gates and publishes of a run; no Spark.

Owns: that view.  Everything is read from the ledgers, as it was recorded then.
"""

import json
from typing import Any

from rich.markup import escape
from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.cli.views.status import gates_table, steps_table
from recsys_spark.config.choices import ALL, read_choices
from recsys_spark.errors import ArgumentError
from recsys_spark.ingest.rules import rules_of
from recsys_spark.pipeline.publish import history
from recsys_spark.pipeline.run_ledger import RunLedger, input_batches
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.run_id import check_run_id
from recsys_spark.warehouse.tables import INGEST_BATCHES, INGEST_FILES


def show_run(root: Location, run_id: str, console: Console) -> None:
    """Prints the run's inputs, settings, steps and gates; ArgumentError if there is no such run."""
    check_run_id(run_id)
    ledger = RunLedger(root)
    states = [row for row in ledger.states if row["run_id"] == run_id]
    if not states:
        known = ", ".join(row["run_id"] for row in ledger.runs()[-5:]) or "none"
        raise ArgumentError(f"explain {run_id}: expected a run of {root}, got none of that name; the last are {known}")
    console.rich.print(_made_of(root, states))
    console.rich.print(_logs(root, states[0]))
    if choices := read_choices(root, run_id):
        console.rich.print(_choices(choices))
    console.rich.print(steps_table(ledger.steps_of(run_id), run_id))
    console.rich.print(gates_table(root, run_id))


def _made_of(root: Location, states: list[dict[str, Any]]) -> Table:
    """The run's inputs, states and publishes.  states: its rows in `runs`, the oldest first."""
    row = states[-1]
    publishes = [
        f"{one.kind} {one.publish_seq} at {one.published_at:%Y-%m-%d %H:%M} UTC"
        for one in history(root)
        if one.run_id == row["run_id"]
    ]
    rules_id, rules = rules_of(root, row["data_date"], states[0]["recorded_at"])
    facts = {
        "as of": f"{row['data_date']} (events before it, 00:00 UTC)",
        "states": ", ".join(f"{one['state']} {one['recorded_at']:%Y-%m-%d %H:%M:%S}" for one in states),
        "published": ", ".join(publishes) or "never",
        "code": row["code_version"],
        "settings": row["config_hash"],
        "seed": str(row["seed"]),
        "read at version": ", ".join(f"{name} {version}" for name, version in sorted(row["pins"].items())),
        "warm start from": row["base_run_id"] or "nothing",
        "rules of the date": f"{len(rules)} in set {rules_id}" if rules_id else "none",
    }
    table = Table("", "", title=escape(f"Run {row['run_id']}"), show_header=False)
    for name, value in facts.items():
        table.add_row(name, escape(value))
    return table


def _choices(rows: list[dict[str, Any]]) -> Table:
    """The settings that were tried on held-out events, the best of each kind first."""
    whole = next(row for row in rows if row["kind"] == ALL)
    title = f"Chosen on {whole['made_on']} by {whole['held_out']}" if whole["held_out"] else "Nothing was chosen"
    table = Table("what", "tried", "recall@10, @20", "users", "", title=escape(f"{title}; {whole['why']}".rstrip("; ")))
    kinds = list(dict.fromkeys(row["kind"] for row in rows if row["kind"] != ALL))
    for row in sorted((row for row in rows if row["kind"] != ALL), key=lambda row: _place(row, kinds)):
        recall = "" if row["recall"] is None else f"{row['recall']:.4f} ({row['low']:.4f} to {row['high']:.4f})"
        mark = row["why"] or ("chosen" if row["chosen"] else "")
        table.add_row(escape(row["kind"]), escape(row["name"]), recall, f"{row['n_users']:,}", escape(mark))
    for name, value in sorted(json.loads(whole["settings"]).items()):
        table.add_row("setting", escape(name), escape(json.dumps(value)), "", "")
    return table


def _place(row: dict[str, Any], kinds: list[str]) -> tuple[int, float]:
    return kinds.index(row["kind"]), -(row["recall"] or 0.0)


def _logs(root: Location, opened: dict[str, Any]) -> Table:
    """The batches that were done when the run was opened and that brought rows from before its date."""
    of_date = set(input_batches(root, opened["data_date"]))
    done = {
        one["batch_seq"]: one
        for one in read_rows(root, INGEST_BATCHES)
        if one["batch_seq"] in of_date and one["state"] == "done" and one["recorded_at"] <= opened["recorded_at"]
    }
    files = [one for one in read_rows(root, INGEST_FILES) if one["batch_seq"] in done]
    table = Table("batch", "feed", "first event", "files", "rows", "newest file", title="Logs that went in")
    for sequence, batch in sorted(done.items()):
        mine = [one for one in files if one["batch_seq"] == sequence]
        rows = sum(one["n_new"] + one["n_anonymous"] for one in mine)
        newest = max(mine, key=lambda one: one["mtime_ns"], default=None)
        cells = [f"{batch['min_event_time']:%Y-%m-%d}", str(len(mine)), f"{rows:,}", newest["path"] if newest else ""]
        table.add_row(str(sequence), batch["kind"], *map(escape, cells))
    return table
