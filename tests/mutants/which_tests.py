"""Which test files belong to a module, read from the imports alone: nothing is kept by hand, so files may move.

A module's tests are the file named after it in the mirrored folder, and every test file that imports it.
"""

import ast
from collections.abc import Iterable
from functools import cached_property
from pathlib import PurePosixPath

from tests.mutants.trees import ROOT, digest_of, listed_files

PACKAGE, TESTS = "recsys_spark", "tests"


class Imports:
    """The modules and test files of the working tree, and who imports whom."""

    def __init__(self) -> None:
        self.all_files = listed_files()
        folders = (f"{PACKAGE}/", f"{TESTS}/")
        self.python = [name for name in self.all_files if name.endswith(".py") and name.startswith(folders)]
        self._by_name = {_dotted(name): name for name in self.python}

    @cached_property
    def modules(self) -> list[str]:
        """Paths of the product's modules."""
        return [name for name in self.python if name.startswith(f"{PACKAGE}/")]

    @cached_property
    def test_files(self) -> list[str]:
        """Paths of files that pytest collects."""
        return [name for name in self.python if name.startswith(f"{TESTS}/") and _is_test(name)]

    @cached_property
    def imported(self) -> dict[str, set[str]]:
        """For each file, the files of the tree that it imports itself."""
        return {name: self._imports_of(name) for name in self.python}

    def mirrored(self, module: str) -> str | None:
        """The test file of a module by its name and folder, if there is one."""
        path = PurePosixPath(module)
        folder = PurePosixPath(TESTS, *path.parts[1:-1])
        names = ["init", path.parent.name] if path.stem == "__init__" else [path.stem]
        found = [str(folder / f"test_{name}.py") for name in names]
        return next((name for name in found if name in self.python), None)

    def tests_of(self, module: str) -> list[str]:
        """The mirrored test file first, then those that import the module."""
        first = self.mirrored(module)
        others = [name for name in self.test_files if module in self.imported[name] and name != first]
        return ([first] if first else []) + others

    def near(self, module: str) -> list[str]:
        """The module, and those of the product that it imports itself."""
        return [module, *(name for name in self.imported[module] if name in self.modules)]

    def digest(self, files: Iterable[str]) -> str:
        """A digest of files, of all that they import directly or not, and of what is not Python."""
        reached, left = set(), [*files, *(name for name in self.python if name.endswith("conftest.py"))]
        while left:
            name = left.pop()
            if name not in reached:
                reached.add(name)
                left += self.imported[name]
        return digest_of([*reached, "pyproject.toml", "uv.lock", *(n for n in self.all_files if n.startswith("conf/"))])

    def _imports_of(self, name: str) -> set[str]:
        names: set[str] = set()
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {one.name for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names |= {f"{node.module}.{one.name}" for one in node.names} | {node.module}
        return {self._by_name[one] for one in names if one in self._by_name} - {name}


def _dotted(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _is_test(name: str) -> bool:
    return PurePosixPath(name).name.startswith("test_")
