"""Faults that people described, one TOML file each, and what is wrong with a description.

Keys: area, why (what would go wrong for a user), file, find (a text that is there once), replace, tests (what notices).
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.trees import ROOT

FOLDER = Path(__file__).parent / "hand"
KEYS = {"area", "why", "file", "find", "replace", "tests"}
AREAS = {
    *("accounting", "airflow", "als", "audit", "backfill", "backtest", "blend", "catalogue", "coldstart"),
    *("doctor", "embed", "evaluation", "exit", "explain", "features", "gates", "gc", "ingest", "init", "interactions"),
    *("item_cf", "ivf_pq", "late", "lease", "location", "lock", "lookup", "metrics", "package", "pins"),
    *("propensities", "publish", "quarantine", "reader", "rollback", "rules", "settings", "size", "status"),
    *("top_k", "two_tower", "validate"),
}


@dataclass(frozen=True)
class HandMutant:
    """A described fault.  name: AREA-NAME of its file."""

    name: str
    area: str
    why: str
    file: str
    find: str
    replace: str
    tests: list[str]

    @property
    def text(self) -> str:
        """The file with the fault in it."""
        return (ROOT / self.file).read_text(encoding="utf-8").replace(self.find, self.replace)


def read_hand() -> tuple[list[HandMutant], list[str]]:
    """The described faults in order of their names, and all that is wrong with the descriptions."""
    mutants, faults = [], []
    for file in sorted(FOLDER.glob("*.toml")):
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as err:
            faults.append(f"{file.name}: {err}")
            continue
        if content.keys() != KEYS:
            faults.append(f"{file.name}: expected the keys {sorted(KEYS)}, got {sorted(content)}")
            continue
        mutant = HandMutant(file.stem, **content)
        faults += [f"{file.name}: {fault}" for fault in _faults_of(mutant)]
        mutants.append(mutant)
    return mutants, faults


def _faults_of(mutant: HandMutant) -> list[str]:
    faults = []
    if mutant.area not in AREAS:
        faults.append(f"expected an area of {sorted(AREAS)}, got {mutant.area}")
    if not mutant.name.startswith(f"{mutant.area}-"):
        faults.append(f"expected a name that begins with {mutant.area}-")
    if not mutant.why.strip() or not mutant.tests:
        faults.append("expected a reason and at least one test")
    if mutant.find == mutant.replace:
        faults.append("expected another text in `replace` than in `find`")
    faults += [fault for test in mutant.tests if (fault := _fault_of_test(test))]
    if not (ROOT / mutant.file).is_file():
        return [*faults, f"{mutant.file} does not exist"]
    times = (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.find)
    if times != 1:
        faults.append(f"expected `find` once in {mutant.file}, got {times} times")
    elif mutant.file.endswith(".py"):
        try:
            compile(mutant.text, mutant.file, "exec")
        except SyntaxError as err:
            faults.append(f"{mutant.file} does not compile with the fault: {err}")
    return faults


def _fault_of_test(test: str) -> str:
    file, _, name = test.partition("::")
    if not (ROOT / file).is_file():
        return f"{file} does not exist"
    name = name.split("[")[0].split("::")[-1]
    if name and not re.search(rf"def {re.escape(name)}\b", (ROOT / file).read_text(encoding="utf-8")):
        return f"{file} has no test {name}"
    return ""
