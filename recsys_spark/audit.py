"""The audit of a run: what is in storage is read back and held against what was written and against every gate.

Owns: the verdicts in `audits` and the refusal.  Called by the runner as the step before publish.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from recsys_spark.errors import GateRefused
from recsys_spark.features import declared_tables
from recsys_spark.gates import Gate, run_gates
from recsys_spark.inputs import read_inputs
from recsys_spark.plan import BUNDLE_TABLES, step
from recsys_spark.publish import head, history
from recsys_spark.run_ledger import OpenRun, latest_runs, record_state
from recsys_spark.steps.context import Context
from recsys_spark.tables.catalog import AUDITS
from recsys_spark.tables.check import measure_rows
from recsys_spark.tables.delta import read_run
from recsys_spark.tables.head import PublishRow
from recsys_spark.tables.ledger import append_rows, steps_of

_TABLES_AT_ONCE = 4  # that are read back and measured


def audit(context: Context, run: OpenRun) -> None:
    """Reads the staged bundle back, holds it against every gate and records the verdicts; GateRefused if one fails."""
    root = context.config.root
    current = head(root)
    gates = _storage_gates(context, run)
    if all(gate.outcome == "passed" for gate in gates):
        inputs = read_inputs(context, run, step("audit"))
        gates += run_gates(inputs, context, _lists_before(root, run), _drift_cosine(root, run))
    recorded_at = datetime.now(UTC)
    rows = [_gate_row(gate, run.run_id) | {"recorded_at": recorded_at} for gate in gates]
    append_rows(root, AUDITS, rows)
    failed = [gate for gate in gates if gate.outcome == "failed"]
    if failed:
        row = next(row for row in latest_runs(root) if row["run_id"] == run.run_id)
        record_state(root, row, "refused")
        reasons = "\n".join(str(gate) for gate in failed)
        raise GateRefused(
            f"run {run.run_id} is not published, {_kept(current)}:\n{reasons}\n"
            "correct the cause and run the date again, or change the bound in [audit]"
        )
    context.figures["publish_seq"] = current.publish_seq if current else 0
    context.figures["n_gates_passed"] = sum(gate.outcome == "passed" for gate in gates)
    context.figures["n_gates_skipped"] = sum(gate.outcome == "skipped" for gate in gates)


def _lists_before(root: Path, run: OpenRun) -> int | None:
    """Lists in the newest bundle of an earlier date: a backfill is not held against what came after it."""
    rows = [row for row in history(root) if row.run_id == run.base_run_id]
    return next((table.n_rows for row in rows for table in row.tables if table.name == "candidates"), None)


def _drift_cosine(root: Path, run: OpenRun) -> float | None:
    """What the step `embed` of the run measured, None if it had nothing to compare with."""
    figures: dict[str, float] = steps_of(root, run.run_id)["embed"]["figures"]
    return figures.get("drift_cosine")


def _storage_gates(context: Context, run: OpenRun) -> list[Gate]:
    """Do the rows in storage equal what the steps wrote, by count and by content?"""
    tables, root = declared_tables(), context.config.root
    written = {name: row for row in steps_of(root, run.run_id).values() for name in row["n_rows"]}

    def gate(name: str) -> Gate:
        expected_rows = written[name]["n_rows"][name]
        expected_hash = written[name]["content_hashes"][name]
        try:
            found = measure_rows(read_run(context.spark, root, tables[name], run.run_id), tables[name])
            same = (found.n_rows, found.content_hash) == (expected_rows, expected_hash)
            detail = f"content {found.content_hash}, written {expected_hash}"
            figure: float | None = found.n_rows
        except Exception as err:
            same, figure, detail = False, None, f"{type(err).__name__}: {str(err)[:300]}"
        return Gate(f"stored_{name}", "passed" if same else "failed", figure, f"{expected_rows} rows", detail)

    # A small table is all planning, which the driver does for several at once.
    with ThreadPoolExecutor(_TABLES_AT_ONCE) as pool:
        return list(pool.map(gate, BUNDLE_TABLES))


def _gate_row(gate: Gate, run_id: str) -> dict[str, object]:
    """The verdict as `audits` stores it."""
    fields: dict[str, object] = {"run_id": run_id, "gate": gate.name, "outcome": gate.outcome, "figure": gate.figure}
    return fields | {"bound": gate.bound, "detail": gate.detail or None}


def _kept(current: PublishRow | None) -> str:
    return f"{current.run_id} stays current" if current else "nothing was published before"
