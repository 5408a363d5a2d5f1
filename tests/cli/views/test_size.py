"""`recsys-spark size` prints every step, what is chosen and what is refused, and needs no warehouse."""

from pathlib import Path

import pytest

from recsys_spark.cli import main
from recsys_spark.cli.views.size import with_towers
from recsys_spark.config.load import load_config


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")


def said(capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert main.main(["size", *options]) == 0
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def steps_in(lines: list[str]) -> list[str]:
    rule = next(at for at, line in enumerate(lines) if line.startswith("──"))
    return [line.split()[0] for line in lines[rule + 1 : lines.index("", rule)]]


def test_size_prints_the_steps_and_leaves_no_warehouse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--users", "20000", "--items", "8000")
    assert steps_in(lines) == ["interactions", "item_cf", "als", "retrieve", "blend"]
    assert any(line.startswith("als: exchange broadcast, ") for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_size_turns_the_towers_on_by_dim(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--users", "20000", "--items", "200000", "--dim", "64")
    assert [one for one in steps_in(lines) if one in ("two_tower", "embed", "ann")] == ["two_tower", "embed", "ann"]
    assert any(line.startswith("two_tower: the index is searched") for line in lines)


def test_size_warns_of_what_would_be_refused(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--users", "1000", "--items", "600000", "--factors", "128")
    refused = "307 MB of vectors of items are more than 268 MB (at most 524,288 items); lower als.factors"
    assert f"warning retrieve, als: refuses, {refused}" in lines


def test_size_takes_faster_cores_as_shorter_hours(capsys: pytest.CaptureFixture[str]) -> None:
    hours = []
    for speed in ("65", "130"):
        lines = said(capsys, "--users", "1000000", "--items", "100000", "--cores", "10", "--gflops-per-core", speed)
        hours.append(next(float(line.split()[0]) for line in lines if "hours if all 10 cores" in line))
    assert hours[1] == pytest.approx(hours[0] / 2, rel=0.01)  # three digits are printed


def test_with_towers_keeps_sources_that_ask_for_them() -> None:
    content = load_config(sets=('sources.enabled=["content"]', "sources.content.by=towers"))
    assert with_towers(content).sources.enabled == ["content"]
    assert with_towers(load_config()).sources.enabled == [
        "popular",
        "item_cf",
        "als",
        "low_pass",
        "successors",
        "content",
        "two_tower",
    ]
