"""Every program of tests/benchmarks at a tiny size: it ends, and its last line is one object of strict JSON.

They run in this process and take the session of the tests for their own: most of the time of each would go into a JVM.
"""

import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
from pyspark.sql import SparkSession

from recsys_spark.cli.demo.story import write_settings
from recsys_spark.config.load import load_config
from recsys_spark.warehouse.location import Location
from tests.benchmarks import report
from tests.empty_warehouse import copy_empty_warehouse
from tests.fast_jvm import with_classes
from tests.made_warehouse import RUN_A, publish_bundle
from tests.s3_server import copy_to

pytestmark = pytest.mark.slow

FOLDER = Path(report.__file__).parent
FEW_PAIRS = ("--users=60", "--items=250", "--draws=1200")
OF_LOGS = ("--users=120", "--dates=1", "--settings=1")
OF_FILMS = (*OF_LOGS, "--log=MovieTweetings", '--set=sources.enabled=["popular","als"]', "--folder={judged}")

# What makes a program tiny; {judged} is one folder for the two that share their runs.
TINY: dict[str, tuple[str, ...]] = {
    "bench_als": (*FEW_PAIRS, "--rounds=1", "--iterations=2", "--readers=80", "--factors=64"),
    "bench_als_memory": ("--users=50", "--exchange=shuffle"),
    "bench_ann": ("--items=3000", "--dim=8", "--shards=2", "--users=20", "--rounds=1"),
    "bench_blend": ("--users=20", "--rounds=1"),
    "bench_cluster": ("--from=2010-06-01", "--to=2010-06-03"),
    "bench_day": (*FEW_PAIRS, "--before=."),
    "bench_embed": ("--items=400", "--rounds=1"),
    "bench_encode_user": ("--items=300", "--calls=20"),
    "bench_ingest": ("--from=2010-06-01", "--to=2010-06-03"),
    "bench_item_cf": (*FEW_PAIRS, "--rounds=1"),
    "bench_object_store": ("--days=2",),
    "bench_reader": ("--users=500", "--items=5", "--lookups=20"),
    "bench_sources": (*FEW_PAIRS, "--rounds=1", "--readers=80"),
    "bench_startup": ("--rounds=1", "--sides", "now", "--no-warm-up"),
    "bench_top_k": (*FEW_PAIRS, "--rounds=1"),
    "bench_train": ("--users=60", "--items=40", "--rounds=1", "--processes", "1"),
    "check_size": FEW_PAIRS,
    "compare_als": OF_LOGS,
    "compare_item_cf": OF_LOGS,
    "compare_two_tower": (*OF_LOGS, "--epochs=1"),
    "judge_defaults": ("--folder=.", "--work={judged}", "--log=planted_03", "--users=60"),
    "judge_published": OF_FILMS,
    "diversity_curve": OF_FILMS,
    "ten_days": ("--days=1", "--log-from=2010-06-01", "--first=2010-06-03"),
    "warm_starts": ("--users=120",),
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `diversity_curve` finds as `judge_published` left it."""
    return tmp_path_factory.mktemp("judged")


@pytest.fixture(scope="module")
def read_once() -> Callable[[Callable[[], Any]], Any]:
    """What a function without arguments gives, which is called once for all programs."""
    return cache(lambda read: read())


@pytest.fixture
def load(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_once: Callable[[Callable[[], Any]], Any]
) -> Callable[[str], ModuleType]:
    """Imports a program so that it takes the session of the tests, leaves it open, and reads what others read."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", with_classes())  # of JVMs that a program starts
    copy_empty_warehouse(tmp_path)  # made now, for it is kept for all tests, and the next line is not
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # programs set them, and the next tests do not
        monkeypatch.setenv(name, "1")

    def take_in(name: str) -> ModuleType:
        try:
            module = importlib.import_module(f"tests.benchmarks.{name}")
        except ModuleNotFoundError as err:
            if err.name != "implicit":
                raise
            pytest.skip("compares with implicit: run the tests with `uv run --group bench pytest`")
        for place in (module, sys.modules["recsys_spark.spark.session"]):
            monkeypatch.setattr(place, "open_session", lambda *_: spark, raising=False)
        monkeypatch.setattr(SparkSession, "stop", lambda _: None)
        if logs := sys.modules.get("tests.benchmarks.compare_item_cf"):
            for log in ("online_retail", "movietweetings"):
                monkeypatch.setattr(logs, log, partial(read_once, getattr(logs, log)))
        if stands_in := STANDS_IN.get(name):
            stands_in(module, tmp_path / "published", monkeypatch)
        return module

    return take_in


def _publish(root: Location, folder: Path) -> float:
    """A bundle below `root` in place of a day's; seconds."""
    publish_bundle(folder, RUN_A, ["user-01"])
    if isinstance(root, Path):
        shutil.copytree(folder, root, dirs_exist_ok=True)
    else:
        copy_to(folder, root)
    return 1.0


def _without_cluster(module: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is submitted: test_cluster does so."""

    def run_day(place: Path, submit: object) -> tuple[float, float]:
        config = load_config(file=write_settings(place))
        return _publish(config.root, folder / place.name), 1.0

    monkeypatch.setattr(module, "pack", lambda place: place)
    monkeypatch.setattr(module, "standalone", nullcontext)
    monkeypatch.setattr(module, "run_day", run_day)


def _without_days(module: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No day is run: test_towers does so in an object store."""

    def run(settings: Path, day: date) -> float:
        return _publish(load_config(file=settings).root, folder / settings.stem)

    monkeypatch.setattr(module, "run", run)


def _without_commands(module: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command is run: the days of these tests do what it does."""
    steps = {"validate": 1.0, "retrieve": 3.0, "blend": 2.0, "audit": 40.0}
    monkeypatch.setattr(module, "day_of", lambda *_: steps)


# Programs that take two whole days each, or more.
STANDS_IN = {
    "bench_cluster": _without_cluster,
    "bench_day": _without_commands,
    "bench_object_store": _without_days,
}


def test_every_program_is_run() -> None:
    programs = {path.stem for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert set(TINY) == programs


def test_every_docstring_says_how_to_run_it() -> None:
    for name in TINY:
        usage = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""
        assert re.search(rf"^    uv run (--group bench )?python tests/benchmarks/{name}\.py", usage, re.MULTILINE), name


@pytest.mark.parametrize("name", TINY)
def test_program_ends_with_an_object_of_json(
    name: str, load: Callable[[str], ModuleType], judged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = load(name)
    with pytest.raises(SystemExit) as ended:
        program.main([*(text.replace("{judged}", str(judged)) for text in TINY[name]), "--no-bars"])
    output = capsys.readouterr().out
    print(output)
    assert ended.value.code == 0, output
    assert _figures_of(output)


def test_program_runs_as_a_process() -> None:
    name = "bench_encode_user"
    command = [sys.executable, str(FOLDER / f"{name}.py"), *TINY[name], "--no-bars"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert _figures_of(done.stdout)["calls"] == 20


def _figures_of(output: str) -> dict[str, Any]:
    """The last line, of which nothing is NaN or infinite."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON: {output}")

    figures = json.loads(output.splitlines()[-1], parse_constant=refuse)
    assert isinstance(figures, dict)
    return figures
