"""How the tests of each module run on unchanged code without Java: which are usable, how long, with which numba.

Measured once for the same code and tests, on a busy machine in CPU time; kept in `.pytest_cache`, which git ignores.
A test needs Spark if it requests the session, directly or by a fixture, or if it fails where there is no Java.
"""

import json
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutants.trees import ROOT, Ended, Tree, Trees, is_busy
from tests.mutants.which_tests import Imports

KEPT = ROOT / ".pytest_cache" / "mutants"
LIMIT_S = 10.0
ROOM_S = 8.0  # for the sum of the chosen files' tests, besides the start of a process
TIMEOUT_S = 40.0
FEWEST_FREE = 0.75  # of a module's own tests; with fewer, what Spark tests alone would look unprotected
INTERPRETED, COMPILED = "interpreted", "compiled"


@dataclass(frozen=True)
class Baseline:
    """files: what runs for the module's mutants, without `left_out`.  problem: why the module is not used, or empty."""

    module: str
    files: list[str]
    left_out: list[str]
    numba: str
    n_tests: int
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class _Measured:
    ended: Ended
    passed: Mapping[str, float]
    failed: list[str]
    seconds: float


def environment(numba: str, tree: Tree, left_out: Sequence[str] = ()) -> dict[str, str]:
    """What the tests of a mutant are told: no Java, no Spark, and what else is left out."""
    java = tree.code.parent / "no_java"
    stub = java / "bin" / "java"
    stub.parent.mkdir(parents=True, exist_ok=True)
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    names = tree.code.parent / "left_out.json"
    names.write_text(json.dumps(sorted(left_out)))
    return {
        "JAVA_HOME": str(java),
        "PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": "{scratch}",
        "NUMBA_DISABLE_JIT": "1" if numba == INTERPRETED else "0",
        "MUTANTS_MEMORY": str(12 * 2**30),
        "MUTANTS_WITHOUT_SPARK": "1",
        "MUTANTS_LEFT_OUT": str(names),
    }


def free_tests(trees: Trees, imports: Imports) -> dict[str, tuple[int, int]]:
    """For each test file, how many of its tests do and do not request a session: (free, all)."""
    kept, keys = _Kept("collected"), {name: f"{name} {imports.digest([name])}" for name in imports.test_files}
    new = [name for name, key in keys.items() if key not in kept.values]

    def collect(tree: Tree, files: Sequence[str]) -> None:
        report = tree.code.parent / "report.jsonl"
        report.unlink(missing_ok=True)
        extra = environment(INTERPRETED, tree) | {"MUTANTS_REPORT": str(report)}
        ended = tree.run(["--collect-only", *files], 600, extra)
        if ended.verdict != "survived" and ended.code != 5:  # 5: none is free
            raise SystemExit(f"the tests cannot be collected:\n{ended.output[-3000:]}")
        counts = {name: [0, 0] for name in files}
        for line in _lines(report):
            count = counts[str(line["found"]).split("::")[0]]
            count[0] += not line["spark"]
            count[1] += 1
        for name, count in counts.items():
            kept.put(keys[name], count)

    if new:
        print(f"collecting the tests of {len(new)} files", file=sys.stderr, flush=True)
        trees.each(collect, [new[number :: trees.workers] for number in range(min(trees.workers, len(new)))])
    return {name: tuple(kept.values[key]) for name, key in keys.items()}


def candidates(imports: Imports, free: Mapping[str, tuple[int, int]]) -> dict[str, list[str]]:
    """Modules whose own tests mostly need no session, and their test files that have such tests."""
    modules = {}
    for module in imports.modules:
        files = [name for name in imports.tests_of(module) if free.get(name, (0, 0))[0]]
        own = [name for name in imports.tests_of(module) if name == imports.mirrored(module)] or files
        n_free, n = (sum(free.get(name, (0, 0))[side] for name in own) for side in (0, 1))
        if n_free and n_free >= FEWEST_FREE * n:
            modules[module] = files
    return modules


def baselines(trees: Trees, imports: Imports, modules: Mapping[str, list[str]]) -> dict[str, Baseline]:
    """The baseline of each module, measured unless it is kept."""
    kept = _Kept("baselines")

    def one(tree: Tree, module: str) -> Baseline:
        key = f"{module} {imports.digest([module, *modules[module]])}"
        if key not in kept.values:
            uses_numba = any("numba" in (ROOT / name).read_text(encoding="utf-8") for name in imports.near(module))
            kept.put(key, asdict(_measure(tree, module, modules[module], uses_numba)))
        return Baseline(**kept.values[key])

    return {one.module: one for one in trees.each(one, list(modules))}


def _measure(tree: Tree, module: str, files: Sequence[str], uses_numba: bool) -> Baseline:
    """The better of numba interpreted and compiled: more tests that pass, then less time."""
    best = _measure_with(tree, module, files, INTERPRETED if uses_numba else COMPILED)
    if not uses_numba:
        return best
    if best.problem or best.left_out or best.seconds > LIMIT_S / 2:
        other = _measure_with(tree, module, files, COMPILED)
        best = max(best, other, key=lambda one: (not one.problem, len(one.files), one.n_tests, -one.seconds))
    return best


def _measure_with(tree: Tree, module: str, files: Sequence[str], numba: str) -> Baseline:
    """All files if they are quick enough, else the first and as many quick ones as there is room for."""
    measured = _run(tree, files, numba, ())
    seconds: dict[str, float] = defaultdict(float)
    for name, time in measured.passed.items():
        seconds[name.split("::")[0]] += time
    chosen = list(files)
    if measured.ended.code is None or measured.seconds > LIMIT_S:
        first = files[0] if files[0] in seconds else None
        chosen = [first] if first else []
        for name in sorted(seconds, key=lambda name: seconds[name]):
            if name != first and sum(seconds[one] for one in [*chosen, name]) <= ROOM_S:
                chosen.append(name)
        if chosen:
            measured = _run(tree, chosen, numba, measured.failed)
    failed = sorted({*measured.failed})
    result = Baseline(module, chosen, failed, numba, len(measured.passed), round(measured.seconds, 1))
    problem = _problem(result, measured)
    return Baseline(**(asdict(result) | {"problem": problem}))


def _problem(result: Baseline, measured: _Measured) -> str:
    if measured.ended.code is None or result.seconds > LIMIT_S or not result.files:
        return f"too slow: over {LIMIT_S:.0f} s"
    if measured.ended.code not in (0, 1, 5):
        return f"its tests do not run: {measured.ended.output[-300:]}"
    n = result.n_tests + len(result.left_out)
    if not result.n_tests or result.n_tests < FEWEST_FREE * n:
        return f"{len(result.left_out)} of {n} tests fail without Java"
    return ""


def _run(tree: Tree, files: Sequence[str], numba: str, left_out: Sequence[str]) -> _Measured:
    report = tree.code.parent / "report.jsonl"
    report.unlink(missing_ok=True)
    extra = environment(numba, tree, left_out) | {"MUTANTS_REPORT": str(report)}
    ended = tree.run(files, TIMEOUT_S, extra, first_fault=False)
    if ended.starved:
        raise SystemExit("the machine is too busy to measure anything; try again later")
    seconds: dict[str, float] = defaultdict(float)
    failed = set(left_out)
    for line in _lines(report):
        if name := line.get("ran"):
            seconds[str(name)] += float(str(line["seconds"]))
            failed |= {str(name)} if line["failed"] else set()
    passed = {name: time for name, time in seconds.items() if name not in failed}
    return _Measured(ended, passed, sorted(failed), ended.cpu_s if is_busy() else ended.seconds)


def _lines(report: Path) -> list[dict[str, object]]:
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


class _Kept:
    """Values in a file of the cache, by keys that say what they were measured on."""

    def __init__(self, name: str) -> None:
        self.file, self.lock = KEPT / f"{name}.json", threading.Lock()
        self.values: dict = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}

    def put(self, key: str, value: object) -> None:
        with self.lock:
            self.values[key] = value
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps(self.values), encoding="utf-8")
