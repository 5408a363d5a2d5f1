"""Who may import whom, walked on the syntax tree; each test looks at all modules and names every offender at once."""

import ast
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recsys_spark.errors import EXTRAS
from tests.architecture.modules import MODULES, ROOT, Module

# What a package may import besides its own modules and what everybody may; rows from the lowest floor to the highest.
FREE = {"errors", "failpoint", "plan"}
MODELS = {"als", "ann", "blend", "features", "item_cf", "low_pass", "sequence", "two_tower"}
BASE = {"config", "context", "numeric", "signals", "spark", "warehouse"}
ALLOWED: dict[str, set[str]] = {
    "warehouse": set(),
    "numeric": set(),
    "config": {"warehouse"},
    "spark": {"config", "numeric", "warehouse"},
    "ingest": {"config", "warehouse"},
    "context": {"config", "ingest", "warehouse"},
    "signals": {"config", "context", "spark"},
    "als": BASE,
    "ann": BASE,
    "features": BASE,
    "item_cf": BASE,
    "sequence": BASE,
    "low_pass": BASE | {"als"},  # the matrix travels, and is multiplied, as in a fit by ALS
    "two_tower": BASE | {"ann"},
    "blend": BASE | {"ann", "ingest"},
    "retrieval": BASE | MODELS,
    "evaluation": BASE | {"blend", "features", "ingest"},
    "validation": BASE | MODELS | {"evaluation", "retrieval"},
    "report": {"numeric"},
    "pipeline": BASE | {"ann", "blend", "features", "ingest", "two_tower"},
    "serving": {"als", "ann", "two_tower", "warehouse"},
    "operations": BASE | MODELS | {"evaluation", "ingest", "pipeline", "retrieval", "validation"},
    "reader": {"serving"},
    "cli": BASE | MODELS | {"evaluation", "ingest", "operations", "pipeline", "retrieval", "serving"},
}
# Models that are fitted beside each other know nothing of each other.
APART = {"als", "item_cf", "two_tower", "sequence"}

PURE = {"pyspark", "delta", "py4j", "deltalake"}
ALLOWED_AT_TOP_OF_DECLARATIONS = {"pydantic", "recsys_spark"}
RUNS_CODE = {"pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve"}
STORAGE_CALLS = (".read.format(", ".write.format(", ".write.parquet(", ".saveAsTable(", "spark.sql(")
RUN_BY_WORKERS = {"mapInArrow", "mapInPandas", "applyInArrow", "applyInPandas", "cogroup", "udf", "pandas_udf"}
OF_BASE = (
    "reader",
    "cli.init.write_settings",
    "cli.reference",
    "cli.views.explain",
    "cli.views.lookup",
    "cli.views.status",
    "ingest.rules",
    "operations.metrics_file",
    "pipeline.gc",
    "pipeline.publish",
)
HEAVY = {"pyspark", "torch", "numba", "faiss", "scipy", "pandas"}


def _package(module: str) -> str:
    """`als` of `recsys_spark.als.fit`; "" for the package itself."""
    return module.removeprefix("recsys_spark").lstrip(".").split(".")[0]


def _imports(nodes: Iterable[ast.AST]) -> list[str]:
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _imported(module: Module) -> list[str]:
    return _imports(ast.walk(module.tree))


def _own(module: Module) -> list[str]:
    known = {one.name for one in MODULES}
    return [name for name in _imported(module) if name in known]


def _roots(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def _within(*folders: str) -> list[Module]:
    found = [module for module in MODULES if set(folders) & set(module.name.split("."))]
    assert found
    return found


def _ends(module: Module) -> str:
    return module.name.rsplit(".", 1)[-1]


def test_a_package_imports_only_what_its_row_allows() -> None:
    found = {
        f"{module.name} imports {name}"
        for module in MODULES
        for name in _own(module)
        if (package := _package(module.name)) not in FREE | {""}
        and _package(name) not in FREE | {"", package} | ALLOWED.get(package, set())
    }
    assert not found


def test_packages_do_not_go_in_circles() -> None:
    known: dict[str, set[str]] = {name: set() for name in ALLOWED}
    for module in MODULES:
        package = _package(module.name)
        known.setdefault(package, set()).update({_package(name) for name in _own(module)} - {package, ""})
    while free := {name for name, below in known.items() if not below & set(known)}:
        known = {name: below for name, below in known.items() if name not in free}
    assert not known


def test_models_that_are_fitted_beside_each_other_are_apart() -> None:
    found = {
        f"{module.name} imports {name}"
        for module in MODULES
        for name in _own(module)
        if {_package(module.name), _package(name)} <= APART and _package(module.name) != _package(name)
    }
    assert not found


def test_steps_of_a_run_are_reached_by_the_plan_alone() -> None:
    found = {
        f"{module.name} imports {name}"
        for module in MODULES
        for name in _own(module)
        if name.rsplit(".", 1)[-1].startswith("step_") and not name.endswith(".step_ingest")
    }
    assert not found


def test_kernels_import_numbers_errors_and_their_own_kind() -> None:
    kernels = _within("kernels", "numeric")
    found = {
        f"{module.name} imports {name}"
        for module in kernels
        for name in _own(module)
        if _package(name) not in {"numeric", "errors"} and not name.startswith(module.name.rpartition(".")[0])
    }
    assert not found
    assert not [one.name for one in kernels if PURE & _roots(_imported(one))]


def test_what_workers_run_does_not_stand_in_a_step() -> None:
    steps = [one for one in MODULES if _ends(one).startswith("step_")]
    used = {
        one.name: {node.attr for node in ast.walk(one.tree) if isinstance(node, ast.Attribute)} & RUN_BY_WORKERS
        for one in steps
    }
    assert steps
    assert not {name: found for name, found in used.items() if found}


def _reached(*starts: str) -> dict[str, set[str]]:
    """Packages by the module that imports them when it is loaded, of all that `starts` load."""
    known, found, todo = {one.name: one for one in MODULES}, {}, list(starts)
    while todo:
        name = todo.pop()
        names = _imports(known[name].tree.body)
        found[name] = _roots(names)
        todo += [one for one in names if one in known and one not in found]
    assert len(found) > len(starts)
    return found


def test_the_command_line_starts_without_anything_heavy() -> None:
    """Commands import what they need when they run, so that a wrong setting is refused at once."""
    assert not {name: heavy for name, found in _reached("recsys_spark.cli.main").items() if (heavy := HEAVY & found)}


def test_services_and_commands_that_read_need_the_base_install_alone() -> None:
    base = {canonicalize_name(Requirement(one).name) for one in _project()["dependencies"]}
    given = {name: {canonicalize_name(one) for one in found} for name, found in packages_distributions().items()}
    free = {"recsys_spark", *sys.stdlib_module_names}
    reached = _reached(*(f"recsys_spark.{one}" for one in OF_BASE))
    assert not {
        name: foreign
        for name, found in reached.items()
        if (foreign := {one for one in found - free if not given.get(one, set()) & base})
    }


def test_declarations_import_nothing_heavy_at_the_top() -> None:
    declarations = [*_within("sources", "groups"), *(one for one in MODULES if _ends(one) == "declared")]
    outside = {one.name: _roots(_imports(one.tree.body)) - set(sys.stdlib_module_names) for one in declarations}
    assert not {name: found for name, found in outside.items() if not found <= ALLOWED_AT_TOP_OF_DECLARATIONS}


def test_only_the_session_module_builds_a_session() -> None:
    assert [one.name for one in MODULES if "SparkSession.builder" in one.text] == ["recsys_spark.spark.session"]


def test_only_the_warehouse_touches_storage() -> None:
    found = {
        f"{module.name} calls {call}"
        for module in MODULES
        if _package(module.name) != "warehouse"
        for call in (*STORAGE_CALLS, *({"deltalake"} & _roots(_imported(module))))
        if call in module.text
    }
    assert not found


def test_modules_load_nothing_that_can_run_code() -> None:
    assert not {one.name: found for one in MODULES if (found := RUNS_CODE & _roots(_imported(one)))}


def _project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_what_is_imported_is_declared_by_the_base_or_the_extra_that_the_faults_name() -> None:
    base, extras = _project()["dependencies"], _project()["optional-dependencies"]
    declared = {canonicalize_name(Requirement(one).name) for group in (base, *extras.values()) for one in group}
    given = {name: {canonicalize_name(one) for one in found} for name, found in packages_distributions().items()}
    jobs = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "jobs").glob("*.py")]
    imported = {name for tree in (*jobs, *(one.tree for one in MODULES)) for name in _roots(_imports(ast.walk(tree)))}
    foreign = imported - set(sys.stdlib_module_names) - {"recsys_spark"}
    assert {"pyspark", "numpy"} <= foreign
    assert not {name: given.get(name) for name in foreign if not given.get(name, set()) & declared}
    for extra, packages in EXTRAS.items():
        brought = {canonicalize_name(Requirement(one).name) for one in extras[extra]}
        assert not [name for name in packages if not given[name] & brought]
