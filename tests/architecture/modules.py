"""The modules of the product, each read and parsed once for all tests of the architecture."""

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "recsys_spark"


class Module(NamedTuple):
    """name: as it is imported.  path: its file.  text: what is in it.  tree: the same, parsed."""

    name: str
    path: Path
    text: str
    tree: ast.Module


def _read(path: Path) -> Module:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    text = path.read_text(encoding="utf-8")
    return Module(name, path, text, ast.parse(text))


MODULES = [_read(path) for path in sorted(PACKAGE.rglob("*.py"))]
