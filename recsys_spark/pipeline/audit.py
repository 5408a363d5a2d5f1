"""Audit of a run: reads the stored bundle back, compares it with what was written, and checks every gate.

Owns: the verdicts in `audits` and the refusal.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from recsys_spark.context import Context
from recsys_spark.errors import GateRefused
from recsys_spark.features.declared import declared_tables
from recsys_spark.pipeline.gates.lists import run_gates
from recsys_spark.pipeline.gates.verdict import Forced, Gate, Measured, verdict
from recsys_spark.pipeline.inputs import read_inputs
from recsys_spark.pipeline.publish import current_row, history
from recsys_spark.pipeline.run_ledger import OpenRun, RunLedger
from recsys_spark.plan import BUNDLE_TABLES, step
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.publish_row import PublishRow
from recsys_spark.warehouse.spark_check import measure_rows
from recsys_spark.warehouse.spark_tables import read_run
from recsys_spark.warehouse.tables import AUDITS

_TABLES_AT_ONCE = 4  # tables that are read back and measured in parallel


def audit(context: Context, ledger: RunLedger, run: OpenRun, forced: Forced, before: Sequence[Gate] = ()) -> None:
    """Reads the staged bundle back, checks every gate and records the verdicts; GateRefused if one fails.

    forced: gates that may fail all the same.  before: verdicts from before the run, which are recorded with the others.
    """
    root = context.config.root
    current = current_row(root)
    gates = [*before, _changes_gate(ledger, run, current), *_storage_gates(context, ledger, run)]
    if is_stored := not forced.refused(gates):
        gates += run_gates(read_inputs(context, run, step("audit")), context, _measured(ledger, run))
    gates = [_noted(gate, forced) for gate in gates]
    recorded_at = datetime.now(UTC)
    append_rows(root, AUDITS, [_gate_row(gate, run.run_id) | {"recorded_at": recorded_at} for gate in gates])
    if refused := forced.refused(gates):
        ledger.record_state(run.run_id, "refused")
        reasons = "\n".join(str(gate) for gate in refused)
        raise GateRefused(
            f"run {run.run_id} is not published, {_kept(current)}:\n{reasons}\n"
            f"{_not_held(forced, gates) if is_stored else ''}"
            "correct the cause and run the date again, change the bound in [audit], or pass over a gate this once with "
            "--force GATE --why TEXT"
        )
    context.figures["publish_seq"] = current.publish_seq if current else 0
    for outcome in ("passed", "skipped", "failed"):
        name = "forced" if outcome == "failed" else outcome
        context.figures[f"n_gates_{name}"] = sum(gate.outcome == outcome for gate in gates)


def _not_held(forced: Forced, gates: Sequence[Gate]) -> str:
    """A line that says which forced names no gate of the run has, "" if there are none."""
    unknown = sorted(forced.gates - {gate.name for gate in gates})
    return f"--force: expected gates of this run, got {', '.join(unknown)}\n" if unknown else ""


def _noted(gate: Gate, forced: Forced) -> Gate:
    """The verdict as it is recorded: a gate that failed and was passed over says why."""
    if gate.outcome != "failed" or gate.name not in forced.gates:
        return gate
    return replace(gate, detail=f"{gate.detail}; forced: {forced.why}".removeprefix("; "))


def _measured(ledger: RunLedger, run: OpenRun) -> Measured:
    """What steps of the run measured, and how many lists the newest bundle of an earlier date has.

    A backfill is not compared with what came after it.
    """
    rows = [row for row in history(ledger.root) if row.run_id == run.base_run_id]
    n_lists = next((table.n_rows for row in rows for table in row.tables if table.name == "candidates"), None)
    steps = ledger.steps_of(run.run_id)
    drift, share = steps["embed"]["figures"].get("drift_cosine"), steps["blend"]["figures"].get("share_fallback")
    return Measured(n_lists, drift, share)


def _changes_gate(ledger: RunLedger, run: OpenRun, current: PublishRow | None) -> Gate:
    """Was candidate_changes made against the bundle that is current now?"""
    figure = ledger.steps_of(run.run_id)["changes"]["figures"]["against_publish_seq"]
    bound = current.publish_seq if current else 0
    is_current = figure == bound
    return verdict("changes_against_current", is_current, figure, f"publish {bound}", "" if is_current else _STALE)


_STALE = "another bundle was published since; the step changes is run again with the date"


def _storage_gates(context: Context, ledger: RunLedger, run: OpenRun) -> list[Gate]:
    """Do the rows in storage equal what the steps wrote, by count and by content?"""
    tables, root = declared_tables(), context.config.root
    written = ledger.tables_of(run.run_id)

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

    # Nearly all the time of a small table is planning, which the driver does for several at once.
    with ThreadPoolExecutor(_TABLES_AT_ONCE) as pool:
        return list(pool.map(gate, BUNDLE_TABLES))


def _gate_row(gate: Gate, run_id: str) -> dict[str, object]:
    """The verdict as `audits` stores it."""
    fields: dict[str, object] = {"run_id": run_id, "gate": gate.name, "outcome": gate.outcome, "figure": gate.figure}
    return fields | {"bound": gate.bound, "detail": gate.detail or None}


def _kept(current: PublishRow | None) -> str:
    return f"{current.run_id} stays current" if current else "nothing was published before"
