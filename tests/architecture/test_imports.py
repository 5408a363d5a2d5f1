"""Who may import whom, walked on the syntax tree: a layer sees only what is below it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "recsys_spark"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Lower numbers are lower layers; a module may import its own layer and those below.
LAYERS = {
    "errors": 0,
    "config": 0,
    "plan": 0,
    "failpoint": 0,
    "location": 0,
    "config_file": 0,
    "setting_types": 0,
    "fit_settings": 0,
    "list_settings": 0,
    "kernels": 1,
    "rule_set": 1,
    "tables": 1,
    "adapters": 2,
    "sources": 3,
    "features": 3,
    "steps": 4,
}
TOP = 5
ALLOWED_AT_TOP_OF_DECLARATIONS = {"pydantic", "recsys_spark"}


def _layer(module: str) -> int:
    part = module.removeprefix("recsys_spark").lstrip(".").split(".")[0]
    return LAYERS.get(part, 0 if not part else TOP)


def _imports(path: Path, top_only: bool = False) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else list(ast.walk(tree))
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def _name(path: Path) -> str:
    return ".".join(("recsys_spark", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_imports_only_its_layer_and_below(path: Path) -> None:
    layer = _layer(_name(path))
    too_high = [name for name in _imports(path) if name.startswith("recsys_spark") and _layer(name) > layer]
    assert not too_high, f"{_name(path)} (layer {layer}) imports {too_high}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernels").glob("*.py")), ids=_name)
def test_kernel_does_not_know_spark(path: Path) -> None:
    assert not [name for name in _imports(path) if name.split(".")[0] in ("pyspark", "delta", "py4j")]


@pytest.mark.parametrize(
    "path", sorted([*(PACKAGE / "sources").glob("*.py"), *(PACKAGE / "features").glob("*.py")]), ids=_name
)
def test_declaration_imports_nothing_heavy_at_the_top(path: Path) -> None:
    import sys

    outside = {name.split(".")[0] for name in _imports(path, top_only=True)} - set(sys.stdlib_module_names)
    assert outside <= ALLOWED_AT_TOP_OF_DECLARATIONS


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_only_the_session_module_builds_a_session(path: Path) -> None:
    if path.name != "session.py":
        assert "SparkSession.builder" not in path.read_text(encoding="utf-8")


# Reads and writes of tables go through these; the reader is the one that downstream services import.
STORAGE = {"recsys_spark.tables", "recsys_spark.reader"}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_only_tables_and_reader_touch_storage(path: Path) -> None:
    name = _name(path)
    if any(name.startswith(one) for one in STORAGE):
        return
    text = path.read_text(encoding="utf-8")
    assert "deltalake" not in [module.split(".")[0] for module in _imports(path)]
    for call in (".read.format(", ".write.format(", ".write.parquet(", ".saveAsTable(", "spark.sql("):
        assert call not in text, f"{name} calls {call}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_loads_nothing_that_can_run_code(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not {"pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve"} & {
        name.split(".")[0] for name in _imports(path)
    }
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call.id for call in calls if isinstance(call, ast.Name) and call.id in ("eval", "exec", "compile")]
    assert "allow_pickle=True" not in path.read_text(encoding="utf-8")
