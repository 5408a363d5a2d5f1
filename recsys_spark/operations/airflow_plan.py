"""Export of the plan for the Airflow DAG: JSON alone, so that a scheduler needs nothing of this package.

Owns: `airflow_dags/plan.json`.  Written by `python -m recsys_spark.operations.airflow_plan`; a test keeps it up to
date.
"""

import ast
import json
from pathlib import Path
from typing import Any

from recsys_spark import package_root
from recsys_spark.plan import BUNDLE_TABLES, PLAN, Step, steps_before

# Two steps share a module.
_FUNCTIONS = {"ingest": "ingest", "catalog": "ingest_catalogue"}

PLAN_FILE = Path("airflow_dags") / "plan.json"


def plan_text() -> str:
    """The content of `plan.json`: the steps with what they wait for and need, and the tables that a run publishes."""
    found = {"steps": [_described(step) for step in PLAN], "published": list(BUNDLE_TABLES)}
    return json.dumps(found, indent=2) + "\n"


def _described(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "after": _nearest(step) if step.in_run else [],
        "in_run": step.in_run,
        "doc": f"{_first_line(step)}\n\nReads {_listed(step.reads)}; writes {_listed(step.writes)}.",
        "hours": step.hours,
        "conf": {"spark.executor.memoryOverheadFactor": str(step.python_memory)},
    }


def _nearest(step: Step) -> list[str]:
    """The steps before, without those that another of them waits for anyway."""
    before = steps_before(step)
    passed = {earlier for one in PLAN if one.name in before for earlier in _all_before(one)}
    return [name for name in before if name not in passed]


def _all_before(step: Step) -> set[str]:
    before = set(steps_before(step))
    return before.union(*(_all_before(one) for one in PLAN if one.name in before))


def _first_line(step: Step) -> str:
    """The first paragraph of the module's docstring; of what comes before a run, of the step's own function."""
    path = package_root().joinpath(*step.module.split(".")).with_suffix(".py")
    tree: ast.Module | ast.FunctionDef = ast.parse(path.read_text(encoding="utf-8"))
    if step.name in _FUNCTIONS:
        own = (one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == _FUNCTIONS[step.name])
        tree = next(own)
    text = ast.get_docstring(tree) or ""
    return " ".join(text.split("\n\n")[0].split())


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "the landing folder"


if __name__ == "__main__":
    PLAN_FILE.write_text(plan_text(), encoding="utf-8")
