"""`hand`: each described fault against the tests that should notice it, which may start Spark."""

import argparse
import sys
import time

from tests.mutants.hand import HandMutant, read_hand
from tests.mutants.results import Results, changed_lines
from tests.mutants.trees import ROOT, Tree, Trees, digest_of, listed_files, tree_copies

BASELINE_TIMEOUT_S = 3600.0


def run_hand(options: argparse.Namespace) -> int:
    """0 if all are caught, 1 if one survived, 2 if the descriptions or the unchanged tests are at fault."""
    mutants, faults = read_hand()
    if faults:
        print("\n".join(faults))
        return 2
    chosen = [one for one in mutants if options.area in (None, one.area)]
    if options.names:
        chosen = [one for one in chosen if one.name in options.names]
        if missing := {*options.names} - {one.name for one in chosen}:
            print(f"expected names of files in tests/mutants/hand, got {sorted(missing)}")
            return 2
    started = time.monotonic()
    results = Results(options.json, digest_of(listed_files()))
    todo = [one for one in chosen if one.name not in results.rows]
    with tree_copies(options.workers) as trees:
        if todo and not options.no_baseline and not _unchanged_passes(trees, todo):
            return 2

        def judge(tree: Tree, mutant: HandMutant) -> None:
            results.add(_judge(tree, mutant, options.timeout), len(chosen))

        trees.each(judge, todo)
    rows = [results.rows[one.name] for one in chosen]
    for row in rows:
        if row["verdict"] != "caught":
            print(f"{row['verdict']}: {row['name']} {row['where']}\n    {row['lines'][0]}\n -> {row['lines'][1]}")
            print(f"    {row['why']}\n    {' '.join(row['tests'])}\n{row['output']}".rstrip())
    summary = results.finish(rows, {"seconds": round(time.monotonic() - started)})
    return 1 if summary["survived"] else 2 if summary["error"] else 0


def _unchanged_passes(trees: Trees, mutants: list[HandMutant]) -> bool:
    tests = sorted({test for one in mutants for test in one.tests})
    tests = [test for test in tests if test.split("::")[0] not in tests or "::" not in test]
    print(f"running {len(tests)} test files and tests on unchanged code", file=sys.stderr, flush=True)

    def run(tree: Tree, half: list[str]) -> bool:
        ended = tree.run(half, BASELINE_TIMEOUT_S, {})
        if ended.verdict != "survived":
            print(f"the tests do not pass on unchanged code:\n{ended.output[-3000:]}")
        return ended.verdict == "survived"

    halves = [tests[number :: trees.workers] for number in range(trees.workers)]
    return all(trees.each(run, [half for half in halves if half]))


def _judge(tree: Tree, mutant: HandMutant, timeout_s: float) -> dict:
    line, old, new = changed_lines((ROOT / mutant.file).read_text(encoding="utf-8"), mutant.text)
    with tree.changed(mutant.file, mutant.text):
        ended = tree.run(mutant.tests, timeout_s, {})
    return {
        "name": mutant.name,
        "area": mutant.area,
        "verdict": ended.verdict,
        "seconds": round(ended.seconds, 1),
        "where": f"{mutant.file}:{line}",
        "lines": [old, new],
        "why": mutant.why,
        "tests": mutant.tests,
        "output": ended.output[-1500:] if ended.verdict == "error" else "",
    }
