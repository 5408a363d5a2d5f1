"""`auto`: a sample of mutants of the modules whose tests need no Spark, each against the tests of its module."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.mutants.baseline import Baseline, baselines, candidates, environment, free_tests
from tests.mutants.operators import Mutant, mutants_of
from tests.mutants.results import Results, changed_lines
from tests.mutants.sample import Named, found_again, in_order, number_of
from tests.mutants.trees import ROOT, Tree, Trees, digest_of, tree_copies
from tests.mutants.which_tests import Imports

TIMEOUT_S = 15.0


def run_auto(options: argparse.Namespace) -> int:
    """Measures the sample and reports; 1 if a mutant could not be judged."""
    imports, started = Imports(), time.monotonic()
    results = Results(options.json, f"{options.seed} {digest_of(imports.all_files)}")
    with tree_copies(options.workers) as trees:
        modules = candidates(imports, free_tests(trees, imports))
        mutants = {module: mutants_of((ROOT / module).read_text(encoding="utf-8"), module) for module in modules}
        gone: list[Named] = []
        pool = in_order((one for some in mutants.values() for one in some), options.seed)
        if options.of:
            pool, gone = found_again(_named(options.of), pool)
        known: dict[str, Baseline] = {}
        chosen = _choose(pool, len(pool) if options.of else options.n, trees, imports, modules, known)
        todo = [one for one in chosen if number_of(one, options.seed) not in results.rows]

        def judge(tree: Tree, mutant: Mutant) -> None:
            results.add(_judge(tree, mutant, known[mutant.path], options.seed), len(chosen))

        trees.each(judge, todo)
    rows = [results.rows[number_of(one, options.seed)] for one in chosen]
    _report(rows, gone, known)
    usable = [module for module, one in known.items() if not one.problem]
    facts = {
        "seed": options.seed,
        "modules": len({row["file"] for row in rows}),
        "modules_measured": len(known),
        "modules_without_spark": len(modules),
        "modules_left_out": {one.module: one.problem for one in known.values() if one.problem},
        "candidates": sum(len(mutants[module]) for module in usable),
        "gone": len(gone),
        "seconds": round(time.monotonic() - started),
    }
    return 1 if results.finish(rows, facts)["error"] else 0


def _named(file: Path) -> list[Named]:
    rows = json.loads(file.read_text(encoding="utf-8"))["results"]
    return [Named(r["file"], r["function"], r["before"], r["after"], r["occurrence"]) for r in rows]


def _choose(
    pool: list[Mutant],
    n: int,
    trees: Trees,
    imports: Imports,
    modules: Mapping[str, list[str]],
    known: dict[str, Baseline],
) -> list[Mutant]:
    """The first `n` mutants whose modules' baselines allow it and that can be compiled; `known` gets the baselines."""
    while True:
        usable = [one for one in pool if one.path not in known or not known[one.path].problem]
        chosen: list[Mutant] = []
        for one in usable:
            if len(chosen) < n and _compiles(one):
                chosen.append(one)
        new = {one.path for one in chosen} - known.keys()
        if not new:
            return chosen
        print(f"measuring the unchanged tests of {len(new)} modules", file=sys.stderr, flush=True)
        known |= baselines(trees, imports, {module: modules[module] for module in sorted(new)})


def _compiles(mutant: Mutant) -> bool:
    try:
        compile(mutant.apply((ROOT / mutant.path).read_text(encoding="utf-8")), mutant.path, "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def _judge(tree: Tree, mutant: Mutant, baseline: Baseline, seed: int) -> dict:
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    text = mutant.apply(source)
    line, old, new = changed_lines(source, text)
    with tree.changed(mutant.path, text):
        ended = tree.run(baseline.files, TIMEOUT_S, environment(baseline.numba, tree, baseline.left_out))
    return {
        "name": number_of(mutant, seed),
        "verdict": ended.verdict,
        "seconds": round(ended.seconds, 1),
        "where": f"{mutant.path}:{line}",
        "lines": [old, new],
        "file": mutant.path,
        "function": mutant.function,
        "kind": mutant.kind,
        "before": mutant.before,
        "after": mutant.after,
        "occurrence": mutant.occurrence,
        "tests": baseline.files,
        "numba": baseline.numba,
        "output": ended.output[-1500:] if ended.verdict == "error" else "",
    }


def _report(rows: list[dict], gone: list[Named], known: Mapping[str, Baseline]) -> None:
    for one in known.values():
        if one.problem:
            print(f"left out {one.module}: {one.problem}")
    for name in gone:
        print(f"gone: {name.path} {name.function}: {name.before!r} -> {name.after!r}")
    for verdict in ("error", "timed out", "survived"):
        for row in (row for row in rows if row["verdict"] == verdict):
            print(f"{verdict}: {row['where']} [{row['kind']}]\n    {row['lines'][0]}\n -> {row['lines'][1]}")
            print(f"    {' '.join(row['tests'])}")
            if row["output"]:
                print(row["output"])
