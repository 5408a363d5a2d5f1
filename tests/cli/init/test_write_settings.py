"""`recsys-spark init`: for logs of many forms, what is guessed is how they were written; and the refusals."""

import csv
import gzip
import json
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from recsys_spark.cli import main
from recsys_spark.cli.demo.logs import write_catalogue, write_events
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config, EventColumns
from recsys_spark.ingest.parse_event import EventSpec, event_parser

START = datetime(2025, 3, 1, 8, 0, tzinfo=UTC)
ACTIONS = ["view"] * 7 + ["addToCart"] * 2 + ["purchase"]
DATA = Path(__file__).parents[2] / "data"


def times(n: int) -> list[datetime]:
    """One event an hour and seven minutes: five weeks for 600."""
    return [START + timedelta(minutes=67 * at) for at in range(n)]


def users(n: int) -> list[str]:
    return [f"c{at * 7 % 83}" for at in range(n)]


def items(n: int) -> list[str]:
    return [f"p{at * 11 % 59}" for at in range(n)]


def rows_of(n: int = 600, **columns: Iterable[Any]) -> list[dict[str, Any]]:
    """`n` rows; a shorter column is repeated."""
    lists = {name: list(values) for name, values in columns.items()}
    return [{name: values[at % len(values)] for name, values in lists.items()} for at in range(n)]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)(data)
    path.write_bytes(packed)


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def probed(capsys: pytest.CaptureFixture[str]) -> Callable[[], tuple[Config, str]]:
    """Runs init on ./logs: the settings that it wrote, as a command loads them, and what it printed."""

    def run() -> tuple[Config, str]:
        code = main.main(["init", "logs"])
        said = capsys.readouterr()
        assert code == 0, said.err
        assert "recsys-spark run" in said.out.splitlines()[-1]
        return load_config(file=Path("recsys.toml")), said.out

    return run


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        assert main.main(["init", *(arguments or ("logs",))]) == 2
        assert not Path("recsys.toml").is_file()
        return capsys.readouterr().err

    return run


def columns_of(config: Config) -> dict[str, str]:
    """The mapping where it differs from our names."""
    own = load_config().events.columns.model_dump()
    return {ours: name for ours, name in config.events.columns.model_dump().items() if name != own[ours]}


def parses(config: Config, rows: list[dict[str, Any]], as_text: bool = False) -> list[tuple[Any, ...]]:
    """The rows through the parser of ingest; every one must be accepted."""
    parse = event_parser(EventSpec(config.events, 1 << 62, None), as_text)
    return [parse(row, line) for line, row in enumerate(rows)]


def test_write_settings_reads_camel_case_jsonl_in_milliseconds(probed: Callable[[], tuple[Config, str]]) -> None:
    rows = rows_of(
        userId=users(600),
        itemId=items(600),
        eventType=ACTIONS,
        eventTime=[int(time.timestamp() * 1000) for time in times(600)],
        sessionId=[f"s{at // 5}" for at in range(600)],
    )
    for part in range(3):
        write_jsonl(Path(f"logs/events-2025-03-0{part + 1}.jsonl.gz"), rows[part * 200 : part * 200 + 200])
    config, said = probed()
    assert "a run tries popular, item_cf, als, low_pass, successors, and chooses their settings" in said
    assert columns_of(config) == {
        "user_id": "userId",
        "item_id": "itemId",
        "event_type": "eventType",
        "event_time": "eventTime",
        "session_id": "sessionId",
    }
    assert config.events.time_format == "epoch_ms"
    assert config.storage.root == "warehouse"
    assert (config.landing.events, config.landing.items, config.landing.users) == ("logs", "", "")
    types = config.events.types
    assert {name: (kind.raw, kind.weight) for name, kind in types.items()} == {
        "view": ([], 1.0),
        "add_to_cart": (["addToCart"], 3.0),
        "purchase": ([], 5.0),
    }
    parsed = parses(config, rows)
    assert [row[3] for row in parsed[:10]] == ["view"] * 7 + ["add_to_cart"] * 2 + ["purchase"]


@pytest.mark.parametrize(("pattern", "mark"), [("%d/%m/%Y %H:%M", ";"), ("%m/%d/%Y %H:%M", ","), ("%d.%m.%Y", "\t")])
def test_write_settings_tells_day_first_from_month_first_in_csv(
    pattern: str, mark: str, probed: Callable[[], tuple[Config, str]]
) -> None:
    rows = rows_of(
        InvoiceNo=[str(536365 + at // 4) for at in range(600)],
        StockCode=items(600),
        Quantity=[1, 6, 12],
        InvoiceDate=[time.strftime(pattern) for time in times(600)],
        UnitPrice=[2.55, 3.39],
        CustomerID=users(600),
    )
    write_csv(Path("logs/orders.csv"), rows, mark)
    config, said = probed()
    assert config.events.time_format == pattern
    assert columns_of(config) == {
        "user_id": "CustomerID",
        "item_id": "StockCode",
        "event_time": "InvoiceDate",
        "value": "Quantity",
        "session_id": "InvoiceNo",
    }
    # No column says what a line is: the name of the file does.
    assert config.events.default_type == "order"
    assert (config.events.types["order"].weight, config.events.types["order"].value_transform) == (5.0, "log")
    assert "day or the month" not in said
    assert len(parses(config, [{k: str(v) for k, v in row.items()} for row in rows], as_text=True)) == 600


def test_write_settings_says_when_day_and_month_cannot_be_told_apart(probed: Callable[[], tuple[Config, str]]) -> None:
    rows = rows_of(20, user=users(20), item=items(20), when=["03/04/2025"], event=["view", "buy"])
    write_csv(Path("logs/x.csv"), rows)
    config, said = probed()
    assert config.events.time_format == "%d/%m/%Y"
    assert "day or the month" in said
    assert "day or the month" in Path("recsys.toml").read_text()


def test_write_settings_reads_parquet_with_its_own_times(probed: Callable[[], tuple[Config, str]]) -> None:
    table = pa.table(
        {
            "visitorid": pa.array(range(600), pa.int64()),
            "sku": items(600),
            "ts": pa.array(times(600), pa.timestamp("ms", "UTC")),
            "action": [ACTIONS[at % 10] for at in range(600)],
        }
    )
    Path("logs/ds=2025-03-01").mkdir(parents=True)
    pq.write_table(table, "logs/ds=2025-03-01/part-00000.parquet")
    config, _ = probed()
    assert columns_of(config) == {"user_id": "visitorid", "item_id": "sku", "event_time": "ts", "event_type": "action"}
    assert config.events.time_format == "iso"
    # The folder of tomorrow will stand beside the one of today.
    assert config.landing.events == "logs"


def test_write_settings_reads_ratings_without_a_type(probed: Callable[[], tuple[Config, str]]) -> None:
    rows = rows_of(
        userId=range(1, 84),
        movieId=[f"m{at}" for at in range(59)],
        rating=[0.5, 4.0, 5.0],
        timestamp=[int(t.timestamp()) for t in times(600)],
    )
    write_csv(Path("logs/ratings.csv"), rows)
    config, said = probed()
    kind = config.events.types[config.events.default_type]
    assert config.events.default_type == "rating"
    assert config.events.time_format == "epoch_s"
    assert (kind.value_transform, kind.value_cap, kind.weight) == ("cap", 5.0, 1 / 5)
    assert "every line is taken as a rating" in said


def test_write_settings_points_each_feed_at_its_own_folder(probed: Callable[[], tuple[Config, str]]) -> None:
    rows = rows_of(
        customer_id=users(600), product_id=items(600), action=ACTIONS, ts=[time.isoformat() for time in times(600)]
    )
    write_jsonl(Path("logs/clickstream/2025/03/01.jsonl.zst"), rows)
    catalogue = rows_of(
        59,
        id=[f"p{at}" for at in range(59)],
        name=[f"Product {at}" for at in range(59)],
        brand=["a", "b"],
        embedding=[[0.5] * 16],
    )
    write_jsonl(Path("logs/products/2025-03-01.jsonl"), catalogue)
    people = rows_of(
        83, customer_id=[f"c{at}" for at in range(83)], country=["FR", "DE"], signup_date=["2024-01-02", "2024-02-03"]
    )
    write_csv(Path("logs/customers/2025-03-01/all.csv"), people)
    config, said = probed()
    landing = config.landing
    assert (landing.events, landing.items, landing.users) == ("logs/clickstream", "logs/products", "logs/customers")
    assert columns_of(config)["user_id"] == "customer_id"
    assert (config.items.columns.item_id, config.items.columns.title) == ("id", "name")
    assert config.items.vectors == ["embedding"]
    assert (config.users.columns.user_id, config.users.columns.created_at) == ("customer_id", "signup_date")
    assert config.segments.attribute == "country"
    assert all(title in said for title in ("events, as they", "items, as they", "users, as they"))


def test_write_settings_reads_the_logs_of_a_shop(tmp_path: Path, probed: Callable[[], tuple[Config, str]]) -> None:
    write_events(tmp_path / "logs", date(2011, 8, 1), date(2011, 8, 8))
    write_catalogue(tmp_path / "logs", date(2011, 8, 8))
    config, said = probed()
    assert columns_of(config) == {}
    assert config.events.time_format == "iso"
    assert {name: kind.weight for name, kind in config.events.types.items()} == {"purchase": 5.0, "return": -5.0}
    assert (config.landing.events, config.landing.items, config.landing.users) == (
        "logs/events",
        "logs/items",
        "logs/users",
    )
    assert config.segments.attribute == "country"
    assert "kept as anonymous" in said


def test_write_settings_reads_real_ratings(probed: Callable[[], tuple[Config, str]]) -> None:
    for feed, name in (("ratings", "interactions"), ("items", "items")):
        Path("logs", feed).mkdir(parents=True)
        shutil.copy(DATA / "movietweetings" / f"{name}.parquet", Path("logs", feed))
    config, _ = probed()
    assert columns_of(config) == {}
    assert set(config.events.types) == {"rating"}
    assert config.events.types["rating"].value_cap == 10.0
    assert config.items.columns.tags == "genres"
    assert (config.landing.events, config.landing.items) == ("logs/ratings", "logs/items")


def test_write_settings_gives_roles_to_impressions_dislikes_and_returns(
    probed: Callable[[], tuple[Config, str]],
) -> None:
    actions = ["impression"] * 6 + ["click", "order", "refund", "not_interested"]
    rows = rows_of(
        user_id=users(600),
        item_id=items(600),
        event=actions,
        timestamp=[t.isoformat() for t in times(600)],
        position=[1, 2, 3, 4],
    )
    write_jsonl(Path("logs/a.ndjson"), rows)
    types = probed()[0].events.types
    assert {name: (kind.role, kind.weight) for name, kind in types.items() if kind.role == "engage"} == {
        "click": ("engage", 1.0),
        "order": ("engage", 5.0),
        "refund": ("engage", -5.0),
    }
    assert (types["impression"].role, types["not_interested"].role) == ("impression", "dislike")


def test_write_settings_sets_lines_aside_whose_type_names_no_item(probed: Callable[[], tuple[Config, str]]) -> None:
    rows = rows_of(
        user_id=users(600), item_id=items(600), event=["view", "search"], timestamp=[t.isoformat() for t in times(600)]
    )
    for row in rows:
        if row["event"] == "search":
            del row["item_id"]
    write_jsonl(Path("logs/a.jsonl"), rows)
    config, said = probed()
    assert set(config.events.types) == {"view"}
    assert config.events.unknown_types == "skip"
    assert "would be refused" not in said


def test_write_settings_counts_values_below_zero_as_nothing(probed: Callable[[], tuple[Config, str]]) -> None:
    rows = rows_of(user_id=users(600), item_id=items(600), date=[t.isoformat() for t in times(600)], qty=[1, 5, -2])
    write_jsonl(Path("logs/orders.jsonl"), rows)
    config, said = probed()
    assert config.events.on_bad_value == "cap"
    assert "200 of 600 values are below zero" in said
    assert len(parses(config, rows)) == 600


def test_write_settings_leaves_out_an_event_id_that_comes_twice(probed: Callable[[], tuple[Config, str]]) -> None:
    rows = rows_of(
        user_id=users(600), item_id=items(600), event_time=[t.isoformat() for t in times(600)], event_id=["1", "2"]
    )
    write_jsonl(Path("logs/clicks.jsonl"), rows)
    config, said = probed()
    # By our own name it would be taken as the identity of an event, and all but two would be lost.
    assert config.events.columns.event_id == ""
    assert "event_id is left out" in said
    assert len({row[0] for row in parses(config, rows)}) == 600


def test_write_settings_says_what_it_did_not_understand(probed: Callable[[], tuple[Config, str]]) -> None:
    rows = rows_of(
        user_id=users(600),
        item_id=items(600),
        event=["zorp", "view"],
        ts=[t.strftime("%Y-%m-%d %H:%M:%S") for t in times(600)],
        colour=["red"],
    )
    write_jsonl(Path("logs/a.jsonl"), rows)
    Path("logs/notes.txt").write_text("hello")
    Path("logs/broken.jsonl").write_text("[\n{\n")
    _, said = probed()
    text = " ".join(Path("recsys.toml").read_text().replace("#", "").split())
    for note in (
        "the event type zorp is not understood",
        "set timezone if need be",
        "columns that are not kept: colour",
        "notes.txt would be quarantined",
        "broken.jsonl: neither a log nor a catalogue",
    ):
        assert note in " ".join(said.split())
        assert note in text


def test_write_settings_writes_names_of_any_kind(probed: Callable[[], tuple[Config, str]]) -> None:
    odd = 'Kunde "A"\\ id\x7f'
    rows = rows_of(**{odd: users(600), "item_id": items(600), "ts": [t.isoformat() for t in times(600)]})
    rows = [row | {"event": "Käufe #1" if at % 2 else "view\tit"} for at, row in enumerate(rows)]
    write_jsonl(Path("logs/[red] 'a'.jsonl"), rows)
    config, said = probed()
    assert "events: [red] 'a'.jsonl" in said
    assert config.events.columns.user_id == odd
    assert sorted(raw for kind in config.events.types.values() for raw in kind.raw) == ["Käufe #1", "view\tit"]
    assert len(parses(config, rows)) == 600


def test_write_settings_writes_only_settings_that_exist_and_no_default(
    probed: Callable[[], tuple[Config, str]],
) -> None:
    rows = rows_of(
        user_id=users(600), item_id=items(600), event_type=ACTIONS, event_time=[t.isoformat() for t in times(600)]
    )
    write_jsonl(Path("logs/a.jsonl"), rows)
    probed()
    sections = [line for line in Path("recsys.toml").read_text().splitlines() if line.startswith("[")]
    assert sections == [
        "[storage]",
        "[landing]",
        "[events.types.view]",
        "[events.types.add_to_cart]",
        "[events.types.purchase]",
    ]
    assert set(EventColumns.model_fields) == set(load_config().events.columns.model_dump())


def test_write_settings_names_the_file_in_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(Path("logs/clicks.jsonl"), rows_of(user=users(9), item=items(9), ts=[t.isoformat() for t in times(9)]))
    assert main.main(["init", "logs", "--out", "mine.toml"]) == 0
    assert capsys.readouterr().out.endswith("recsys-spark run --config mine.toml\n")
    assert Path("mine.toml").is_file()


def test_write_settings_never_overwrites_a_file(refusal: Callable[..., str]) -> None:
    write_jsonl(Path("logs/clicks.jsonl"), rows_of(user=users(9), item=items(9), ts=[t.isoformat() for t in times(9)]))
    Path("mine.toml").write_text("precious")
    assert "expected a file that is not there yet, got mine.toml" in refusal("logs", "--out", "mine.toml")
    assert Path("mine.toml").read_text() == "precious"
    Path("link.toml").symlink_to("elsewhere.toml")
    assert "not there yet" in refusal("logs", "--out", "link.toml")
    assert not Path("elsewhere.toml").exists()


def test_write_settings_refuses_an_out_that_cannot_be_written(refusal: Callable[..., str]) -> None:
    write_jsonl(Path("logs/clicks.jsonl"), rows_of(user=users(9), item=items(9), ts=[t.isoformat() for t in times(9)]))
    assert "expected a file that can be written" in refusal("logs", "--out", "nowhere/mine.toml")


def test_write_settings_refuses_what_is_no_folder(refusal: Callable[..., str]) -> None:
    assert "expected a folder with logs, got nothing at nowhere" in refusal("nowhere")
    Path("file").touch()
    assert "expected a folder with logs, got a file at file" in refusal("file")


def test_write_settings_refuses_a_folder_without_logs(refusal: Callable[..., str]) -> None:
    Path("logs").mkdir()
    assert "got no file" in refusal()
    Path("logs/readme.md").write_text("hello")
    Path("logs/data.xlsx").write_bytes(b"PK")
    text = refusal()
    assert ".jsonl" in text
    assert "readme.md" in text or "data.xlsx" in text


def test_write_settings_refuses_csv_without_a_header(refusal: Callable[..., str]) -> None:
    Path("logs").mkdir()
    Path("logs/behaviour.csv").write_text("1,2268318,2520377,pv,1511544070\n" * 50)
    assert "a first line with the names of the columns" in refusal()


@pytest.mark.parametrize(("missing", "meant"), [("user_id", "the user"), ("item_id", "the item")])
def test_write_settings_names_what_is_missing_what_was_seen_and_what_to_write(
    missing: str, meant: str, refusal: Callable[..., str]
) -> None:
    columns = {
        "user_id": users(600),
        "item_id": items(600),
        "event_time": [t.isoformat() for t in times(600)],
        "colour": ["red", "blue"],
        "payload": [{"inner": 1}],
    }
    del columns[missing]
    write_jsonl(Path("logs/events.jsonl"), rows_of(**columns))
    text = refusal()
    assert f"expected a column that can be {meant}, got " in text
    assert "colour, payload (nested: inner)" in text
    assert f'[events.columns] {missing} = "<column>"' in text


def test_write_settings_of_a_log_without_times_takes_the_order_where_a_column_has_it(
    probed: Callable[[], tuple[Config, str]],
) -> None:
    write_csv(Path("logs/reads.csv"), rows_of(reader_id=users(600), book_id=items(600), idx=range(600)))
    config, text = probed()
    assert (config.events.clock, config.events.columns.position) == ("order", "idx")
    assert "no column has times; idx says what came first" in text


@pytest.mark.parametrize("columns", [{}, {"rank": [1, 2, 3]}])
def test_write_settings_of_a_log_without_times_or_order_says_so(
    columns: dict[str, list[int]], probed: Callable[[], tuple[Config, str]]
) -> None:
    # A place that comes again for a user is one on a screen.
    write_csv(Path("logs/reads.csv"), rows_of(reader_id=users(600), book_id=items(600), **columns))
    config, text = probed()
    assert config.events.clock == "none"
    assert 'write clock = "order"' in text


def test_write_settings_refuses_feeds_that_share_a_folder(refusal: Callable[..., str]) -> None:
    shutil.copytree(DATA / "movietweetings", "logs")
    text = refusal()
    assert "interactions.parquet (events) and items.parquet (items) in one" in text
    assert "move them to logs/events and logs/items" in text


def test_write_settings_follows_no_link(refusal: Callable[..., str]) -> None:
    write_jsonl(Path("far/clicks.jsonl"), rows_of(user=users(9), item=items(9), ts=[t.isoformat() for t in times(9)]))
    Path("logs").mkdir()
    Path("logs/clicks.jsonl").symlink_to(Path("far/clicks.jsonl").absolute())
    Path("logs/more").symlink_to(Path("far").absolute())
    assert "symbolic link" in refusal()
