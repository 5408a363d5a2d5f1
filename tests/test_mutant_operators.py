"""Which faults are made of a piece of source, and that a sample of them stays when other code changes."""

import pytest

from tests.mutants.operators import mutants_of
from tests.mutants.results import changed_lines
from tests.mutants.sample import Named, found_again, in_order

CASES = {
    "a < b": {"a <= b", "a >= b"},
    "a not in b": {"a in b"},
    "a is (None)": {"a is not (None)"},
    "a < b <= c": {"a <= b <= c", "a >= b <= c", "a < b < c", "a < b > c"},
    "x = 3": {"x = 4"},
    "x = 100": {"x = 200"},
    "x = 0.5": {"x = 1.0"},
    "x = 0.0": {"x = 1.0"},
    "x = True": {"x = False"},
    "x = 'text' + y": set(),
    "a // b": {"a * b"},
    "(a) - (b)": {"(a) + (b)"},
    "a += b": {"a -= b"},
    "X = A | None": set(),
    "x = f(y)": {"x = (y)"},
    "x = f(y, key=z)": {"x = (y)"},
    "f(y)": {"pass"},
    "f(a, b, c)": {"pass", "f(b, a, c)", "f(a, c, b)"},
    "x = f(*a, b)": set(),
    "x = max(a, b)": set(),
    "x = np.zeros(n, np.int64)": set(),
    "x = float(y)": set(),
    "x = len(y)": set(),
    "log.info('n=%d', 3)": set(),
    "os.kill(pid, 0)": set(),
    "__all__ = f(x)": set(),
    "raise KeyError(f(3))": set(),
    "assert x, f(3)": set(),
    "x: Literal[3] = y": set(),
    "x = f'{a + 3}'": set(),
    "@njit(cache=True, inline=3)\ndef f(a: int = g(x)) -> h[3]:\n    pass": {
        "@njit(cache=True, inline=3)\ndef f(a: int = (x)) -> h[3]:\n    pass"
    },
    "if TYPE_CHECKING:\n    f(x)": set(),
    "é = 'ü' if a < b else c": {"é = 'ü' if a <= b else c", "é = 'ü' if a >= b else c"},
}


@pytest.mark.parametrize("source", CASES)
def test_mutants_of_a_piece_of_source(source: str) -> None:
    assert {one.apply(source) for one in mutants_of(source, "a.py")} == CASES[source]


def test_sample_of_other_functions_stays_when_one_changes() -> None:
    before = "def f(a):\n    return a + 1\n\n\ndef g(a):\n    return a < 2\n"
    after = "import os\n\n\ndef f(a, b):\n    return a + b * 1\n\n\ndef g(a):\n    return a < 2\n"
    of_g = [
        [(one.function, one.after) for one in in_order(mutants_of(text, "a.py"), 0) if one.function == "g"]
        for text in (before, after)
    ]
    assert of_g[0] == of_g[1]
    assert len(of_g[0]) == 3  # two comparisons and a number


def test_mutant_is_found_again_in_a_file_that_was_moved() -> None:
    source = "def f(a):\n    return a < b\n"
    old = [Named(one.path, one.function, one.before, one.after, one.occurrence) for one in mutants_of(source, "a/x.py")]
    found, gone = found_again([*old, Named("a/x.py", "f", "a == b", "a != b", 1)], mutants_of(source, "b/c/y.py"))
    assert [one.path for one in found] == ["b/c/y.py", "b/c/y.py"]
    assert [one.before for one in gone] == ["a == b"]


def test_changed_lines_are_shown_as_one() -> None:
    assert changed_lines("a\nf(\n  x\n)\nb\n", "a\npass\nb\n") == (2, "f( x )", "pass")
