"""Fault rows 48 to 50: what a person can write wrong is refused before Spark starts, and leaves nothing behind."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys_spark.cli import main
from recsys_spark.errors import ArgumentError
from recsys_spark.warehouse.run_id import check_run_id
from tests.made_warehouse import RUN_A, publish_bundle

# Row 48: an own settings file, and what its refusal must name.
BAD_CONFIGS = [
    ("[candidate]\nk = 5\n", "candidate", "did you mean 'candidates'?"),
    ("[candidates]\nks = 5\n", "[candidates] ks", "did you mean 'k'?"),
    ("[candidates]\nk = 0\n", "[candidates] k", "give 1 or more"),
    ('[candidates]\nk = "5"\n', "[candidates] k", "integer"),
    ("[candidates]\nk = 5.5\n", "[candidates] k", "integer"),
    ("[candidates]\nk = true\n", "[candidates] k", "integer"),
    ('[candidates]\nseen = "hide"\n', "[candidates] seen", "'exclude'"),
    ("candidates = 5\n", "[candidates]", "got 5"),
    ("[candidates.source_weights]\npopular = -1.0\n", "[candidates.source_weights] popular", "give 0.0 or more"),
    ("[candidates.source_weights]\npopulr = 1.0\n", "[candidates.source_weights] populr", "did you mean 'popular'?"),
    ("[ingest]\nmax_bad_row_ratio = 1.5\n", "[ingest] max_bad_row_ratio", "give 1.0 or less"),
    ("[publish]\ngrace_hours = 47\n", "[publish] grace_hours", "give 48 or more"),
    ("[interactions]\nhalf_life_days = nan\n", "[interactions] half_life_days", "expected "),
    ('[storage]\nroot = ""\n', "[storage] root", "expected "),
    ('[storage]\nroot = "s3a://bucket/warehouse"\n', "[storage] root", "a folder, or a URL of s3"),
    ('[events]\ntimezone = "Mars"\n', "[events] timezone", "Europe/Berlin"),
    ('[events]\ntime_format = "%Q"\n', "[events] time_format", "strptime"),
    ('[events.types.View]\nrole = "engage"\n', "[events.types] View", "lower-case"),
    ('[events.types.view]\nrole = "look"\n', "[events.types.view] role", "'impression'"),
    ("[events]\ntypes = {}\n", "[events] types", "expected "),
    ('[sources]\nenabled = ["populer"]\n', "[sources] enabled", "did you mean 'popular'?"),
    ("[sources.popular]\nwindow = 3\n", "[sources.popular] window", "did you mean 'window_days'?"),
    ("[interactions]\nwindow_days = 36501\n", "[interactions] window_days", "give 36500 or less"),
    ("[candidates]\nactive_within_days = 4000000\n", "[candidates] active_within_days", "give 36500 or less"),
    ("[candidates]\navailable_within_days = 4000000\n", "[candidates] available_within_days", "give 36500 or less"),
    ("[candidates]\nrepeat_after_days = 4000000\n", "[candidates] repeat_after_days", "give 36500 or less"),
    ("[ingest]\nlate_days = 4000000\n", "[ingest] late_days", "give 36500 or less"),
    ("[events.types.view]\nexclude_days = 4000000\n", "[events.types.view] exclude_days", "give 36500 or less"),
    ("[publish]\ngrace_hours = 876001\n", "[publish] grace_hours", "give 876000 or less"),
    ("[sources.popular]\nwindow_days = 4000000\n", "[sources.popular] window_days", "give 36500 or less"),
    ("[sources.popular]\ntrend_half_life_days = 1e9\n", "trend_half_life_days", "give 36500.0 or less"),
    ("[candidates\nk = 5\n", "own.toml", "expected TOML"),
]

# Row 49.
BAD_DATES = [
    *("2026-02-30", "2025-02-29", "2026-13-01", "2026-00-10", "2026-01-00", "0000-01-01", "9999-12-31", "2126-01-01"),
    *("20261-1-1", "2026-1-1", "20260101", "2026/01/01", "01-02-2026", "today", "yesterday", "", " ", "2026-01-01 "),
    *("2026-01-01T00:00:00", "2026-W01-1", "-2026-01-01", "2026-01-01\n", "٢٠٢٦-٠١-٠١", "２０２６-01-01", "2026‐01‐01"),
]

# Row 50.
HOSTILE = [
    *("..", ".", "../..", "../../etc/passwd", "..\\..", "%2e%2e", "%2e%2e%2f", "..%00", "....//", "/etc/passwd", "/"),
    *("//host/share", "file:///etc/passwd", "file:/tmp/x", "s3://bucket/x", "hdfs://h/x", "C:\\x", "~root", "~"),
    *("\0", "a\0b", "20250131-001-9f2c81aa\0", "\n", "20250131-001-9f2c81aa\n", "\r\n", "\x1b[31m", "\u202e", "\ufeff"),
    *("';DROP TABLE runs--", "' OR '1'='1", "1' OR run_id IS NOT NULL --", '"', "`id`", "$(id)", "${HOME}", "{0}"),
    *("20250131-001-9F2C81AA", "20250131-001-9f2c81a", "20250131-001-9f2c81aaa", "x20250131-001-9f2c81aa"),
    *("２０２５０１３１-001-9f2c81aa", "20250131-٠٠١-9f2c81aa", "20250131-001-9f2c81aa/../x", "current", "latest"),
    *("[red]", "a" * 100_000, "🛒", "\udcff", "*", "?"),
]

# Three refusals in one process: of each its exit code, the lines that it wrote, the processor time that the process has
# used until then, and whether Spark was imported.
REFUSALS = """
import contextlib, io, json, sys, time
from recsys_spark.cli.main import main
found = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(arguments)
    found.append([code, said.getvalue().count("\\n"), time.process_time(), "pyspark" in sys.modules])
print(json.dumps(found))
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, so that the default warehouse would be seen; and no Spark whatever happens."""
    monkeypatch.chdir(tmp_path)

    def started(*_: object, **__: object) -> None:
        raise AssertionError("Spark was started")

    monkeypatch.setattr("recsys_spark.spark.session.open_session", started)


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must be refused: exit 2, one line or more on stderr alone, and no file made anywhere."""

    def run(*arguments: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main.main(list(arguments)) == 2
        assert sorted(tmp_path.rglob("*")) == before
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        assert 0 < len(said.err) < 2_000
        return said.err

    return run


@pytest.mark.parametrize(("text", "named", "hint"), BAD_CONFIGS)
def test_bad_config_is_refused_and_its_key_is_named(
    text: str, named: str, hint: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "own.toml").write_text(text)
    line = refused("run", "--config", "own.toml").splitlines()[0]
    assert line.startswith("own.toml")
    assert named in line
    assert hint in line


@pytest.mark.parametrize("command", [("run",), ("ingest",), ("step", "index"), ("status",), ("gc",), ("lookup", "u")])
def test_bad_config_is_refused_by_every_command(command: tuple[str, ...], refused: Callable[..., str]) -> None:
    assert refused(*command, "--set", "candidates.k=0").startswith("--set [candidates] k: ")


def test_refusals_take_less_than_2_seconds_and_import_no_spark(tmp_path: Path) -> None:
    commands = [["run", "--set", "candidates.k=0"], ["run", "--date", "2026-02-30"], ["rollback", "--to", ".."]]
    for _ in range(2):  # the other hyper-thread of a core makes one slow
        program = [sys.executable, "-c", REFUSALS, json.dumps(commands)]
        ended = subprocess.run(program, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        found = json.loads(ended.stdout)
        assert [(code, lines, spark) for code, lines, _, spark in found] == [(2, 1, False)] * len(commands)
        # Processor time: on a machine that does nothing else it is the time that passes.
        used_s = found[-1][2]
        if used_s < 2:
            break
    assert used_s < 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", BAD_DATES)
@pytest.mark.parametrize("command", [("run",), ("step", "index")])
def test_wrong_date_is_refused_and_nothing_is_written(
    command: tuple[str, ...], text: str, refused: Callable[..., str]
) -> None:
    assert refused(*command, "--date", text).startswith("--date: expected ")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "command", [("run", "--date"), ("rollback", "--to"), ("step",), ("run", "--profile"), ("run", "--config")]
)
def test_hostile_text_is_refused_and_nothing_is_written(
    command: tuple[str, ...], text: str, refused: Callable[..., str]
) -> None:
    said = refused(*command, text)
    if command[0] == "rollback":
        assert said.startswith("run_id: expected ")


@pytest.mark.parametrize("text", [*HOSTILE, *BAD_DATES])
def test_check_run_id_refuses_all_but_a_run_id(text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check_run_id(text)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_as_a_setting_is_refused_and_nothing_is_written(text: str, refused: Callable[..., str]) -> None:
    refused("run", "--set", f"sources.enabled={text}")
    refused("run", "--set", f"candidates.seen={text}")
    refused("run", "--set", f"storage.{text}=x")


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "file:///tmp/x", "s3a://bucket/x", "ftp://h/x", "\x1b[31m", "\u202e", "\udcff"]
)
@pytest.mark.parametrize("key", ["storage.root", "landing.events"])
def test_root_that_no_folder_can_have_is_refused(key: str, text: str, refused: Callable[..., str]) -> None:
    assert refused("run", "--set", f"{key}={text}").startswith("--set [")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published") / "warehouse"
    publish_bundle(root, RUN_A, ["u1"], {"u1": "s"})
    return root


@pytest.mark.parametrize("user", HOSTILE)
def test_lookup_of_a_hostile_user_shows_the_list_for_everybody(
    user: str, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in published.rglob("*")}
    code = main.main(["lookup", "--set", f"storage.root={published}", "--", user])
    assert {path: path.stat().st_mtime_ns for path in published.rglob("*")} == before
    assert list(Path.cwd().iterdir()) == []
    said = capsys.readouterr()
    # What is no Unicode can be no id.
    assert code == (2 if user == "\udcff" else 0), said.err
    assert ("list for everybody" in " ".join(said.out.split())) == (code == 0)


@pytest.mark.parametrize("command", [("rollback", "--to", RUN_A), ("gc",)])
def test_command_on_a_warehouse_is_refused_and_makes_none(
    command: tuple[str, ...], refused: Callable[..., str]
) -> None:
    assert refused(*command).startswith("warehouse: expected a warehouse, got none; ")


def test_lookup_without_a_warehouse_is_refused_and_makes_none(refused: Callable[..., str]) -> None:
    assert "expected a published bundle" in refused("lookup", "u1")


def test_status_without_a_warehouse_makes_none(tmp_path: Path) -> None:
    assert main.main(["status"]) in (0, 2)
    assert list(tmp_path.iterdir()) == []
