"""Metrics of the newest run as a Prometheus textfile, for a node exporter's textfile collector.

Owns: the names of the metrics.  Written at the end of every command that runs a date, if [storage] metrics_file names a
file; needs no Spark.  Format: https://prometheus.io/docs/instrumenting/exposition_formats (text, version 0.0.4).
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys_spark.errors import RecsysError
from recsys_spark.ingest.values import midnight
from recsys_spark.pipeline.publish import current_row
from recsys_spark.pipeline.run_ledger import COMPLETED, RunLedger
from recsys_spark.warehouse.ledger import gates_of
from recsys_spark.warehouse.location import Location

_log = logging.getLogger(__name__)

_HELP = {
    "recsys_published_timestamp_seconds": "When the current bundle was published",
    "recsys_data_date_timestamp_seconds": "As-of date of the current bundle, 00:00 UTC",
    "recsys_publish_seq": "Number of the current publish",
    "recsys_run_complete": "1 if the newest run is complete, else 0",
    "recsys_step_seconds": "Wall time of a step of the newest run",
    "recsys_step_rows": "Rows that a step of the newest run wrote",
    "recsys_step_figure": "A figure of a step of the newest run, as in run_steps",
    "recsys_gate_passed": "1 if a gate of the newest run passed, 0 if it failed",
    "recsys_gate_figure": "What a gate of the newest run measured",
}


def write_metrics(root: Location, path: Path) -> None:
    """Writes the file in one piece: a collector never reads half of it, and steps that end together write one each.

    If it cannot be written, that is a warning: the run is what matters, and it has ended by now.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}")  # a collector reads *.prom alone
    try:
        temporary.write_text(metrics_text(root), encoding="utf-8")
        temporary.replace(path)
    except (OSError, RecsysError) as err:
        _log.warning("phase=metrics not written to %s: %s", path, err)
        temporary.unlink(missing_ok=True)


def metrics_text(root: Location) -> str:
    """The figures of the newest run, and which bundle is current."""
    lines: list[str] = []
    named = ""
    for name, labels, value in _samples(root):
        if name != named:
            lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge"]
            named = name
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{shown}}} {value:.17g}" if shown else f"{name} {value:.17g}")
    return "\n".join(lines) + "\n"


def _samples(root: Location) -> Iterator[tuple[str, dict[str, str], float]]:
    """Samples of one name follow each other."""
    current = current_row(root)
    if current is not None:
        yield "recsys_published_timestamp_seconds", {}, current.published_at.timestamp()
        yield "recsys_data_date_timestamp_seconds", {}, midnight(current.data_date).timestamp()
        yield "recsys_publish_seq", {}, float(current.publish_seq)
    ledger = RunLedger(root)
    runs = ledger.runs()
    if not runs:
        return
    run = runs[-1]
    steps = ledger.steps_of(run["run_id"])
    yield "recsys_run_complete", {"run_id": run["run_id"]}, float(run["state"] in COMPLETED)
    for name, step in steps.items():
        yield "recsys_step_seconds", {"step": name}, step["seconds"]
    for name, step in steps.items():
        for table, n_rows in sorted(step["n_rows"].items()):
            yield "recsys_step_rows", {"step": name, "table": table}, float(n_rows)
    for name, step in steps.items():
        for figure, value in sorted(step["figures"].items()):
            yield "recsys_step_figure", {"step": name, "figure": figure}, value
    yield from _gates(gates_of(root, run["run_id"]))


def _gates(newest: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, str], float]]:
    for name, gate in newest.items():
        if gate["outcome"] != "skipped":
            yield "recsys_gate_passed", {"gate": name}, float(gate["outcome"] == "passed")
    for name, gate in newest.items():
        if gate["figure"] is not None:
            yield "recsys_gate_figure", {"gate": name}, gate["figure"]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
