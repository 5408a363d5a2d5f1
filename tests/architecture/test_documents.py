"""The documents are in date: links and commands exist, generated text is what the declarations give, sizes are kept."""

import re
import subprocess
from functools import cache
from pathlib import Path

from typer.main import get_command

from recsys_spark.cli.main import app
from recsys_spark.cli.reference import reference_text
from tests.architecture.modules import ROOT

FRONT_BYTES = 12 << 10
README_BYTES = (2 << 10, 6 << 10)  # of a subsystem
TABLES = Path("recsys_spark/warehouse/TABLES.md")
OTHERS = {Path("README.md"), TABLES}  # the front page, and what is generated


@cache
def documents() -> dict[Path, str]:
    """All documents but those about data, by their path in the repository."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [Path(one) for one in listed.splitlines() if "data" not in Path(one).parts]
    return {path: (ROOT / path).read_text(encoding="utf-8") for path in paths}


def test_every_link_into_the_repository_exists() -> None:
    found = {
        f"{path}: {target}"
        for path, text in documents().items()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
        if not (ROOT / path.parent / target).exists()
    }
    assert not found


def test_every_command_that_is_named_exists_and_the_front_page_names_all() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = {
        (str(path), name)
        for path, text in documents().items()
        for name in re.findall(r"(?:`|uv run )recsys-spark ([a-z]+)", text)
    }
    assert {one for one in named if one[1] not in known} == set()
    assert {name for path, name in named if path == "README.md"} == known


def test_documents_keep_to_their_sizes() -> None:
    sizes = {path: len(text.encode()) for path, text in documents().items()}
    assert sizes[Path("README.md")] <= FRONT_BYTES
    least, most = README_BYTES
    of_subsystems = {path: size for path, size in sizes.items() if path.name == "README.md" and path not in OTHERS}
    assert len(of_subsystems) >= 10
    assert {path: size for path, size in of_subsystems.items() if not least <= size <= most} == {}
    assert sizes[Path("CONTRIBUTING.md")] <= most


def test_reference_of_tables_is_in_date() -> None:
    assert documents()[TABLES] == reference_text(), f"run `uv run recsys-spark reference > {TABLES}`"
