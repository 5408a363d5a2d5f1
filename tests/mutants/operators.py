"""All the small faults that can be put into a source file, each as a replacement of one piece of its text.

Kinds: a comparison is moved by its bound or negated, a number or a truth value is another, an arithmetic operator is
another, a call is taken out (a statement becomes `pass`, `f(x)` becomes `x`), two adjacent arguments change places.

Left alone, because nobody should chase them or because to run them would be dangerous:
- `__all__`, type annotations and unions of types, decorators, bases of classes, `if TYPE_CHECKING`, `cache=`;
- all text: what is in an f-string, in `raise`, in the message of an `assert`, and calls that write a log;
- conversions (`float(x)`, `list(x)`) are not taken out, and arguments of `min` and `max` are not swapped;
- what fails wherever its line runs at all: `range(x)` and `len(x)` taken out, text or a dtype swapped with what is not;
- whatever stands in a call that ends a process or deletes a tree: the tests may run beside other work.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

COMPARISONS = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: (r"not\s+in", ("in",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: (r"is\s+not", ("is",)),
}
ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
LOGS = {"log", "logger", "_log", "_logger", "logging", "warnings"}
DANGEROUS = {"kill", "killpg", "pthread_kill", "rmtree", "setrlimit", "prctl"}
KEPT_CALLS = {"asarray", "ascontiguousarray", "astype", "bool", "enumerate", "float", "int", "iter", "len", "list"}
KEPT_CALLS |= {"Path", "range", "str", "tuple"}
SYMMETRIC = {"min", "max", "minimum", "maximum"}
TYPES = {"bool", "bytes", "dict", "float", "int", "list", "set", "str", "tuple"}
SMALL_INT = 16  # a larger number is doubled: one more of 500 changes nothing that a test should see


@dataclass(frozen=True)
class Mutant:
    """`before`, bytes start:end of the file `path`, becomes `after`; its `occurrence`-th such change in `function`."""

    path: str
    function: str
    kind: str
    line: int
    before: str
    after: str
    occurrence: int
    start: int
    end: int

    def apply(self, source: str) -> str:
        """The file's text with the fault in it."""
        data = source.encode()
        return (data[: self.start] + self.after.encode() + data[self.end :]).decode()


def mutants_of(source: str, path: str) -> list[Mutant]:
    """All mutants of a file, in the order of the text."""
    walk = _Walk(source)
    walk.visit(ast.parse(source))
    seen: Counter[tuple[str, str, str]] = Counter()
    mutants = []
    for function, kind, line, start, end, after in sorted(walk.found, key=lambda one: (one[3], one[4], one[5])):
        before = walk.data[start:end].decode()
        seen[function, before, after] += 1
        mutants.append(Mutant(path, function, kind, line, before, after, seen[function, before, after], start, end))
    return mutants


class _Walk(ast.NodeVisitor):
    """Collects (function, kind, line, start, end, after) of every mutant."""

    def __init__(self, source: str) -> None:
        self.data = source.encode()
        self.starts = [0]
        for line in self.data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.names: list[str] = []
        self.found: list[tuple[str, str, int, int, int, str]] = []

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self.data[start:end].decode()

    def _add(self, kind: str, node: ast.expr | ast.stmt, after: str) -> None:
        self.found.append((".".join(self.names) or "<module>", kind, node.lineno, *self._span(node), after))

    def _exchange(self, kind: str, node: ast.expr | ast.stmt, between: tuple[int, int], old: str, new: str) -> None:
        """Adds `node` with the operator `old`, a pattern, between two places of the file replaced by `new`."""
        (start, end), (low, high) = self._span(node), between
        gap = self.data[low:high].decode()
        match = re.search(old, gap)
        if match is None or "#" in gap:
            return
        gap = gap[: match.start()] + new + gap[match.end() :]
        self._add(kind, node, self.data[start:low].decode() + gap + self.data[high:end].decode())

    def _named(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, inner: list[ast.AST]) -> None:
        self.names.append(node.name)
        for one in inner:
            self.visit(one)
        self.names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        defaults = [one for one in (*node.args.defaults, *node.args.kw_defaults) if one is not None]
        self._named(node, [*defaults, *node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._named(node, list(node.body))

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(isinstance(one, ast.Name) and one.id == "__all__" for one in node.targets):
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if name_of(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        """Nothing: a message, and which error it is."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Nothing: text."""

    def visit_Assert(self, node: ast.Assert) -> None:
        self.visit(node.test)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "cache":
            self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            if not _is_left_alone(node.value):
                self._add("call", node, "pass")
                self._visit_call(node.value, statement=True)
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if not _is_left_alone(node):
            self._visit_call(node, statement=False)

    def _visit_call(self, node: ast.Call, statement: bool) -> None:
        name, args = name_of(node.func), node.args
        if len(args) == 1 and not statement and not isinstance(args[0], ast.Starred) and name not in KEPT_CALLS:
            self._add("call", node, f"({self._text(args[0])})")
        for left, right in pairwise(args):
            one, other = self._text(left), self._text(right)
            fixed = _has_a_fixed_place(left) or _has_a_fixed_place(right)
            if one != other and not fixed and name not in SYMMETRIC | {"cast"}:
                (start, end), low, high = self._span(node), self._span(left), self._span(right)
                parts = (start, low[0]), other, (low[1], high[0]), one, (high[1], end)
                text = "".join(p if isinstance(p, str) else self.data[p[0] : p[1]].decode() for p in parts)
                self._add("arguments", node, text)
        self.visit(node.func)
        for inner in (*(args[1:] if name == "cast" else args), *node.keywords):
            self.visit(inner)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, op, right in _pairs(node):
            old, others = COMPARISONS[type(op)]
            for new in others:
                self._exchange("comparison", node, (self._span(left)[1], self._span(right)[0]), old, new)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in ARITHMETIC and not _is_text_or_type(node.left, node.op, node.right):
            old, new = ARITHMETIC[type(node.op)]
            between = self._span(node.left)[1], self._span(node.right)[0]
            self._exchange("arithmetic", node, between, re.escape(old), new)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in ARITHMETIC and not _is_text_or_type(node.target, node.op, node.value):
            old, new = ARITHMETIC[type(node.op)]
            between = self._span(node.target)[1], self._span(node.value)[0]
            self._exchange("arithmetic", node, between, re.escape(f"{old}="), f"{new}=")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._add("constant", node, str(not value))
        elif isinstance(value, int):
            self._add("constant", node, str(value + 1 if value <= SMALL_INT else value * 2))
        elif isinstance(value, float):
            self._add("constant", node, str(value * 2 if value else 1.0))


def name_of(node: ast.expr) -> str:
    """The last name of `a.b.c` or `c`, else nothing."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_left_alone(node: ast.Call) -> bool:
    owner = name_of(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    return owner in LOGS or name_of(node.func) in DANGEROUS


def _has_a_fixed_place(argument: ast.expr) -> bool:
    dtype = isinstance(argument, ast.Attribute) and re.fullmatch(r"(u?int|float|bool)\d*_?", argument.attr)
    text = isinstance(argument, ast.JoinedStr) or (isinstance(argument, ast.Constant) and type(argument.value) is str)
    return bool(dtype) or text or isinstance(argument, ast.Starred) or name_of(argument) in TYPES | {"object"}


def _pairs(node: ast.Compare) -> Iterator[tuple[ast.expr, ast.cmpop, ast.expr]]:
    yield from zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)


def _is_text_or_type(left: ast.expr, op: ast.operator, right: ast.expr) -> bool:
    """Whether an operator joins or formats text, or makes a union of types."""
    for one in (left, right):
        if isinstance(one, ast.JoinedStr) or (isinstance(one, ast.Constant) and isinstance(one.value, str | bytes)):
            return True
        name = name_of(one.value if isinstance(one, ast.Subscript) else one)
        is_type = name in TYPES or (name[:1].isupper() and not name.isupper())
        if isinstance(op, ast.BitOr) and (is_type or (isinstance(one, ast.Constant) and one.value is None)):
            return True
    return False
