"""The README is in date: its reference is the one that the declarations give, its files and commands exist."""

import re
from pathlib import Path

from recsys_spark.cli.reference import BEGIN, END, reference_text

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_reference_is_in_date() -> None:
    found = README[README.index(BEGIN) : README.index(END) + len(END)]
    assert found.strip() == reference_text().strip(), "run `uv run recsys-spark reference` and paste its output"


def test_every_command_that_it_names_exists() -> None:
    from recsys_spark.cli.main import app

    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups if group.name}
    named = set(re.findall(r"(?:`|uv run )recsys-spark ([a-z]+)", README))
    assert named
    assert named <= known


def test_every_link_into_the_repository_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
