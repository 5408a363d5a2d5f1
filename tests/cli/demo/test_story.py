"""The demo: it replaces only what it made, its settings are read, and the whole story ends as it should."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_spark.cli.demo.story import MARKER, prepare_folder, write_settings
from recsys_spark.config.load import load_config
from recsys_spark.errors import ArgumentError, LockedError
from recsys_spark.warehouse.locks import warehouse_lock
from tests.fast_jvm import FAST_START


def test_prepare_folder_makes_a_demo_folder(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "new" / "demo")
    assert [path.name for path in (tmp_path / "new" / "demo").iterdir()] == [MARKER]


def test_prepare_folder_replaces_an_earlier_demo(tmp_path: Path) -> None:
    prepare_folder(tmp_path)
    (tmp_path / "warehouse" / "tables").mkdir(parents=True)
    prepare_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


def test_prepare_folder_refuses_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("three years of work")
    with pytest.raises(ArgumentError, match="with other files in it"):
        prepare_folder(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "three years of work"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_prepare_folder_refuses_what_is_not_a_folder(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("")
    else:
        (tmp_path / "elsewhere").mkdir()
        prepare_folder(tmp_path / "elsewhere")
        target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArgumentError, match="which is a file or a link"):
        prepare_folder(target)


def test_prepare_folder_leaves_a_demo_that_is_running(tmp_path: Path) -> None:
    prepare_folder(tmp_path)
    with warehouse_lock(tmp_path / "warehouse", "demo"), pytest.raises(LockedError):
        prepare_folder(tmp_path)


def test_write_settings_gives_settings_that_load(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" folder\'s'
    folder.mkdir()
    config = load_config(file=write_settings(folder))
    assert config.root == folder / "warehouse"
    assert config.landing.events == str(folder / "landing" / "events")
    assert {name: kind.weight for name, kind in config.events.types.items()} == {"purchase": 1.0, "return": -1.0}
    assert config.segments.attribute == "country"
    assert config.sources.enabled == ["popular", "item_cf", "als"]
    assert load_config(file=write_settings(folder, towers=True)).sources.enabled[3:] == ["two_tower"]


# The whole demo with the towers, and the demo as it is told of with a year of the log.
WHOLE = """
import sys
from recsys_spark.cli.main import main
sys.exit(main(['demo', '--towers', '--folder', sys.argv[1]]))
"""
SHORT = """
import sys
from datetime import date
from pathlib import Path
from recsys_spark.cli.console import Console
from recsys_spark.cli.demo.story import run_demo
run_demo(Console(json_logs=False), Path(sys.argv[1]), False, date(2010, 9, 1))
"""


@pytest.mark.parametrize(
    "program",
    [pytest.param(SHORT, marks=pytest.mark.slow, id="short"), pytest.param(WHOLE, marks=pytest.mark.soak, id="whole")],
)
def test_demo_publishes_and_is_not_worse_than_all_time_popularity(tmp_path: Path, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "demo")],
        env=os.environ | {"COLUMNS": "200", "PYSPARK_PYTHON": sys.executable, "JAVA_TOOL_OPTIONS": FAST_START},
        capture_output=True,
        text=True,
        timeout=2400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "no row was added" in done.stdout
    assert "tables with a new version: none" in done.stdout
    recall = {
        cells[1].strip(): float(cells[2])
        for cells in (line.replace("│", "|").split("|") for line in done.stdout.splitlines())
        if len(cells) == 5 and cells[1].strip().startswith(("published lists", "source", "most bought"))
    }
    # Counted once by an independent program: 945 customers; .0505 for 28 days, .0302 for all time.
    assert "945 customers" in done.stdout
    assert recall["most bought in 28 days"] == 0.0505
    assert recall["most bought of all time"] == 0.0302
    assert recall["published lists"] > recall["most bought of all time"]
    if program is SHORT:
        assert not [name for name in recall if "two_tower" in name]
        return
    assert recall["source two_tower"] > recall["most bought of all time"]
    assert "(served)" in done.stdout  # the recall of the index by nprobe
    assert abs(recall["source two_tower"] - recall["source two_tower, searched exactly"]) <= 0.01
