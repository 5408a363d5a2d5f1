"""Output of `recsys-spark status`: the current bundle, last runs and ingest batches, read from the ledgers; no Spark.

Owns: that view, and the tables of steps and gates that `explain` shows too.
"""

from typing import Any

from rich.markup import escape
from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.pipeline.gates.days import dates_without_run, gap_text
from recsys_spark.pipeline.hindsight_trend import Hindsight, trend
from recsys_spark.pipeline.publish import current_row
from recsys_spark.pipeline.run_ledger import RunLedger
from recsys_spark.warehouse.ledger import gates_of, read_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.tables import INGEST_BATCHES, INGEST_FILES

_LAST = 10


def show_status(root: Location, console: Console) -> None:
    """Prints the current bundle, the last runs, the steps and gates of the newest, and the last ingest batches."""
    current = current_row(root)
    if current is None:
        console.say(f"nothing is published in {root} yet; run `recsys-spark run`")
    else:
        console.say(
            f"current: {current.run_id} as of {current.data_date}, published {current.published_at:%Y-%m-%d %H:%M} UTC "
            f"(publish {current.publish_seq}, {current.kind})"
        )
    ledger = RunLedger(root)
    runs = ledger.runs()[-_LAST:]
    if runs:
        console.rich.print(_runs(ledger, runs))
        console.rich.print(steps_table(ledger.steps_of(runs[-1]["run_id"]), runs[-1]["run_id"]))
        console.rich.print(gates_table(root, runs[-1]["run_id"]))
    if missing := dates_without_run(ledger):
        console.warn(f"{len(missing)} dates have no completed run: {gap_text(missing)}")
    judged = trend(ledger)[-_LAST:]
    if judged:
        console.rich.print(_trend(judged))
        for alarm in judged[-1].alarms:
            console.warn(alarm)
    console.rich.print(_batches(root))


def _trend(judged: list[Hindsight]) -> Table:
    """Recall of the bundles that were current, as a bar and a number each."""
    greatest = max(one.recall for one in judged) or 1.0
    table = Table("as of", "days", "users", f"recall@{judged[-1].k}", "", "popularity", "gini", "", title="Hindsight")
    for one in judged:
        interval = f"{one.recall:.4f} ({one.low:.4f} to {one.high:.4f})"
        gini = "" if one.gini is None else f"{one.gini:.3f}"
        bar = _BARS[round((len(_BARS) - 1) * one.recall / greatest)]
        alarm = "alarm" if one.alarms else ""
        watched = (str(one.day), str(one.window_days), f"{one.n_users:,}")
        table.add_row(*watched, interval, bar, f"{one.popular:.4f}", gini, alarm)
    return table


_BARS = " ▁▂▃▄▅▆▇█"


def _runs(ledger: RunLedger, runs: list[dict[str, Any]]) -> Table:
    table = Table("run", "as of", "state", "steps", "seconds", title="Last runs")
    for run in runs:
        steps = ledger.steps_of(run["run_id"]).values()
        seconds = sum(step["seconds"] for step in steps)
        table.add_row(
            escape(run["run_id"]), str(run["data_date"]), escape(run["state"]), str(len(steps)), f"{seconds:.1f}"
        )
    return table


def steps_table(steps: dict[str, dict[str, Any]], run_id: str) -> Table:
    """The completed steps of a run: times, rows, figures."""
    table = Table("step", "seconds", "rows", "figures", title=escape(f"Steps of {run_id}"))
    for name, step in steps.items():
        rows = ", ".join(f"{table_name} {count:,}" for table_name, count in step["n_rows"].items())
        figures = ", ".join(f"{figure} {value:g}" for figure, value in step["figures"].items())
        table.add_row(escape(name), f"{step['seconds']:.1f}", escape(rows), escape(figures))
    return table


def gates_table(root: Location, run_id: str) -> Table:
    """The newest verdict of every gate on a run."""
    table = Table("gate", "outcome", "figure", "bound", "detail", title="Gates")
    for gate in gates_of(root, run_id).values():
        figure = "" if gate["figure"] is None else f"{gate['figure']:g}"
        texts = [escape(gate[name] or "") for name in ("gate", "outcome", "bound", "detail")]
        table.add_row(*texts[:2], figure, *texts[2:])
    return table


def _batches(root: Location) -> Table:
    table = Table(
        "batch", "feed", "state", "files", "lines", "new", "anonymous", "duplicate", "quarantined", title="Ingest"
    )
    states = {
        row["batch_seq"]: row for row in sorted(read_rows(root, INGEST_BATCHES), key=lambda row: row["recorded_at"])
    }
    files = read_rows(root, INGEST_FILES)
    for sequence in sorted(states)[-_LAST:]:
        mine = [row for row in files if row["batch_seq"] == sequence]
        sums = [
            f"{sum(row[name] for row in mine):,}"
            for name in ("lines_in", "n_new", "n_anonymous", "n_duplicate", "n_quarantined")
        ]
        kind, state = (escape(states[sequence][name]) for name in ("kind", "state"))
        table.add_row(str(sequence), kind, state, str(len(mine)), *sums)
    return table
