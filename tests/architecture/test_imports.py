"""Who may import whom, walked on the syntax tree: a layer sees only what is below it.

Each test goes through all modules and names every offender at once.
"""

import ast
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.modules import MODULES, ROOT, Module

# Lower numbers are lower layers; a module may import its own layer and those below.
LAYERS = {
    "errors": 0,
    "config": 0,
    "plan": 0,
    "failpoint": 0,
    "numeric": 1,
    "kernels": 1,
    "ingest": 1,
    "context": 1,
    "signals": 2,
    "als": 2,
    "item_cf": 2,
    "low_pass": 2,
    "sequence": 2,
    "two_tower": 2,
    "ann": 2,
    "blend": 2,
    "tables": 1,
    "warehouse": 0,
    "spark": 1,
    "adapters": 2,
    "sources": 3,
    "features": 3,
    "retrieval": 3,
    "evaluation": 4,
    "steps": 4,
    "validation": 4,
}
TOP = 5
ALLOWED_AT_TOP_OF_DECLARATIONS = {"pydantic", "recsys_spark"}
RUNS_CODE = {"pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve"}

# Reads and writes of tables go through these; the reader is the one that downstream services import.
STORAGE = ("recsys_spark.warehouse", "recsys_spark.tables", "recsys_spark.serving.bundle")
STORAGE_CALLS = (".read.format(", ".write.format(", ".write.parquet(", ".saveAsTable(", "spark.sql(")


def _layer(module: str) -> int:
    part = module.removeprefix("recsys_spark").lstrip(".").split(".")[0]
    return LAYERS.get(part, 0 if not part else TOP)


def _imports(nodes: Iterable[ast.AST]) -> list[str]:
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def _imported(module: Module) -> list[str]:
    return _imports(ast.walk(module.tree))


def _packages(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def _within(*folders: str) -> list[Module]:
    return [module for module in MODULES if module.path.parent.name in folders]


def test_modules_import_only_their_layer_and_below() -> None:
    found = {
        f"{module.name} (layer {_layer(module.name)}) imports {name}"
        for module in MODULES
        for name in _imported(module)
        if name.startswith("recsys_spark") and _layer(name) > _layer(module.name)
    }
    assert not found


def test_kernels_do_not_know_spark() -> None:
    kernels = _within("kernels", "numeric")
    assert kernels
    assert not [one.name for one in kernels if {"pyspark", "delta", "py4j"} & _packages(_imported(one))]


def test_declarations_import_nothing_heavy_at_the_top() -> None:
    declarations = [*_within("sources", "groups"), *(one for one in MODULES if one.name.endswith(".declared"))]
    assert declarations
    outside = {one.name: _packages(_imports(one.tree.body)) - set(sys.stdlib_module_names) for one in declarations}
    assert not {name: found for name, found in outside.items() if not found <= ALLOWED_AT_TOP_OF_DECLARATIONS}


def test_only_the_session_module_builds_a_session() -> None:
    assert [one.name for one in MODULES if "SparkSession.builder" in one.text] == ["recsys_spark.spark.session"]


def test_only_tables_and_reader_touch_storage() -> None:
    found = {
        f"{module.name} calls {call}"
        for module in MODULES
        if not module.name.startswith(STORAGE)
        for call in (*STORAGE_CALLS, *({"deltalake"} & _packages(_imported(module))))
        if call in module.text
    }
    assert not found


def test_modules_load_nothing_that_can_run_code() -> None:
    assert not {one.name: found for one in MODULES if (found := RUNS_CODE & _packages(_imported(one)))}


def test_what_is_imported_is_declared() -> None:
    """An install without any development group has all that the package and the jobs ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {canonicalize_name(Requirement(one).name) for one in project["dependencies"]}
    given = {name: {canonicalize_name(one) for one in found} for name, found in packages_distributions().items()}
    jobs = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "jobs").glob("*.py")]
    imported = {
        name for tree in (*jobs, *(one.tree for one in MODULES)) for name in _packages(_imports(ast.walk(tree)))
    }
    foreign = imported - set(sys.stdlib_module_names) - {"recsys_spark"}
    assert {"pyspark", "numpy"} <= foreign
    assert not {name: given.get(name) for name in foreign if not given.get(name, set()) & declared}
