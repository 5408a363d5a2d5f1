"""A sample of mutants that stays the same while other code changes.

Each mutant has a number that follows from the seed, its file, its function, and its own text; the lowest are taken.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tests.mutants.operators import Mutant


@dataclass(frozen=True)
class Named:
    """What is known of a mutant of an earlier run."""

    path: str
    function: str
    before: str
    after: str
    occurrence: int


def number_of(mutant: Mutant, seed: int) -> str:
    """The mutant's place in the order of `seed`, and its name: 16 hex digits."""
    parts = (str(seed), mutant.path, mutant.function, mutant.before, mutant.after, str(mutant.occurrence))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def in_order(mutants: Iterable[Mutant], seed: int) -> list[Mutant]:
    """The mutants, lowest number first."""
    return sorted(mutants, key=lambda mutant: number_of(mutant, seed))


def found_again(names: Sequence[Named], mutants: Iterable[Mutant]) -> tuple[list[Mutant], list[Named]]:
    """Those of an earlier run that still exist, and those that are gone.

    A mutant whose file was moved is found by its function and text; among several, by the name of its file.
    """
    known: dict[tuple[str, str, str, int], list[Mutant]] = defaultdict(list)
    for one in mutants:
        known[one.function, one.before, one.after, one.occurrence].append(one)
    found, gone = [], []
    for name in names:
        same = known[name.function, name.before, name.after, name.occurrence]
        exact = [one for one in same if one.path == name.path]
        stem = [one for one in same if PurePosixPath(one.path).stem == PurePosixPath(name.path).stem]
        match = next((some[0] for some in (exact, stem, same) if len(some) == 1), None)
        if match is None:
            gone.append(name)
        else:
            found.append(match)
    return found, gone
