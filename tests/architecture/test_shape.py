"""The house is as its plan says: steps are jobs, modules have tests, files and functions stay small."""

import ast
import subprocess
from importlib import import_module
from pathlib import Path

from recsys_spark.plan import PLAN
from tests.architecture import modules
from tests.architecture.modules import PACKAGE, ROOT

MODULES = [one for one in modules.MODULES if one.path.name != "__init__.py"]

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 40

# Declarations, one entry a line: splitting them would hide what belongs together.
LONG_MODULES = {"recsys_spark.warehouse.tables"}


def test_every_step_is_a_module_and_a_job() -> None:
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    assert jobs == {*(step.name for step in PLAN), "run"}
    for step in PLAN:
        module = import_module(f"recsys_spark.{step.module}")
        if step.in_run and step.name not in ("audit", "publish"):
            assert callable(module.run)


def test_modules_have_their_tests() -> None:
    """In the same folder under `tests`, under the module's name; a step and what it is made of may share one file."""

    def has_tests(path: Path) -> bool:
        name = path.stem.removeprefix("step_")
        folder = ROOT / "tests" / path.relative_to(PACKAGE).parent
        return any((folder / one).exists() for one in (f"test_{name}.py", f"test_step_{name}.py"))

    assert not [one.name for one in MODULES if not has_tests(one.path)]


def test_modules_are_small() -> None:
    assert not [
        one.name for one in MODULES if one.name not in LONG_MODULES and len(one.text.splitlines()) > MAX_MODULE_LINES
    ]


def test_functions_are_small() -> None:
    lengths = {
        f"{one.name}.{node.name}": (node.end_lineno or 0) - node.body[0].lineno + 1
        for one in MODULES
        for node in ast.walk(one.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES}


def test_modules_say_what_they_own() -> None:
    assert not [one.name for one in MODULES if not ast.get_docstring(one.tree)]


def test_top_level_holds_only_what_it_may() -> None:
    allowed = {
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "jobs",
        "recsys_spark",
        "conf",
        "tests",
        "airflow_dags",
        "findings",
    }
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tops = {name.split("/")[0] for name in listed.splitlines()}
    assert {top for top in tops if not top.startswith(".")} <= allowed | {"uv.lock", "LICENSE"}
