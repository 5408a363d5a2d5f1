"""No call that can run code out of a file, walked on the syntax tree; the modules that do so are in `test_imports`."""

import ast

from tests.architecture.modules import MODULES

RUN_CODE = {
    "torch.load",
    "torch.jit.load",
    "torch.export.load",
    "torch.package.PackageImporter",
    "yaml.load",
    "yaml.unsafe_load",
    "pandas.read_pickle",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
}


def _what_runs_code(tree: ast.Module) -> list[str]:
    """Names of RUN_CODE that are used, under whatever alias, and arguments that let numpy unpickle."""
    origins = {name: f"builtins.{name}" for name in ("eval", "exec", "compile")}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            origins |= {alias.asname or alias.name.split(".")[0]: _origin(alias) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            origins |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and _dotted(node, origins) in RUN_CODE:
            found.append(_dotted(node, origins))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.append(f"allow_pickle={ast.unparse(node.value)}")
    return found


def _origin(alias: ast.alias) -> str:
    return alias.name if alias.asname else alias.name.split(".")[0]


def _dotted(node: ast.expr, origins: dict[str, str]) -> str:
    """`torch.jit.load` of `t.jit.load` after `import torch as t`; "" for an expression without a name."""
    if isinstance(node, ast.Name):
        return origins.get(node.id, "")
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, origins)}.{node.attr}"
    return ""


def test_modules_call_nothing_that_runs_code_out_of_a_file() -> None:
    assert not {one.name: found for one in MODULES if (found := _what_runs_code(one.tree))}


def test_what_runs_code_is_found_under_every_name() -> None:
    expected = {
        "import torch\ntorch.load(path, weights_only=True)": ["torch.load"],
        "import torch as t\nread = t.jit.load": ["torch.jit.load"],
        "import torch.jit\ntorch.jit.load(path)": ["torch.jit.load"],
        "import torch.jit as jit\njit.load(path)": ["torch.jit.load"],
        "def f():\n    from torch import load as read\n    read(path)": ["torch.load"],
        "from torch import export\nexport.load(path)": ["torch.export.load"],
        "import yaml\nyaml.load(text)": ["yaml.load"],
        "import pandas as pd\npd.read_pickle(path)": ["pandas.read_pickle"],
        "import numpy as np\nnp.load(path, allow_pickle=True)": ["allow_pickle=True"],
        "np.load(path, allow_pickle=flag)": ["allow_pickle=flag"],
        "eval('1')": ["builtins.eval"],
        "list(map(exec, lines))": ["builtins.exec"],
        "np.load(path, allow_pickle=False)": [],
        "import json\njson.load(file)\nself.load(file)": [],
        "import re, torch\nre.compile('a')\ntorch.save(state, path)\nmodel.eval()": [],
    }
    assert {source: _what_runs_code(ast.parse(source)) for source in expected} == expected
