"""A record becomes the event that it says, under the key that tells it from every other."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.ingest.parse_event import EVENT_COLUMNS, UNDATED_US, EventSpec, event_parser, type_names
from recsys_spark.ingest.records import RowFault
from recsys_spark.ingest.values import to_us
from tests.event_files import RECEIVED_AT, event, events_section


def _parse(
    fields: dict[str, Any], *sets: str, as_text: bool = False, earliest: datetime | None = None, line: int = 1
) -> dict[str, Any]:
    spec = EventSpec(events_section(*sets), to_us(RECEIVED_AT), to_us(earliest) if earliest else None)
    return dict(zip(EVENT_COLUMNS, event_parser(spec, as_text)(fields, line), strict=True))


def _reason(fields: dict[str, Any], *sets: str, **options: Any) -> str:
    with pytest.raises(RowFault) as caught:
        _parse(fields, *sets, **options)
    return caught.value.reason


def test_event_parser_reads_every_column() -> None:
    fields = {
        "user_id": 7, "item_id": "i", "event_type": "bought", "event_time": "2025-01-02T03:04:05Z", "event_id": 9,
        "value": 2, "session_id": "s", "surface": "home", "position": 3, "propensity": 0.25, "shop": "x",
        "app": {"v": 1},
    }  # fmt: skip
    parsed = _parse(fields, 'events.attributes=["shop","app","none"]')
    assert len(parsed.pop("event_key")) == 32
    assert parsed == {
        "user_id": "7", "item_id": "i", "event_type": "buy", "event_id": "9", "value": 2.0, "session_id": "s",
        "event_time": to_us(datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)), "surface": "home", "position": 3,
        "propensity": 0.25, "attributes": [("shop", "x"), ("app", '{"v": 1}')],
        "ds": (date(2025, 1, 2) - date(1970, 1, 1)).days,
    }  # fmt: skip


def test_event_parser_reads_columns_by_their_mapped_names() -> None:
    sets = ("events.columns.user_id=customer", "events.columns.item_id=sku", "events.time_format=epoch_ms")
    parsed = _parse({"customer": "c", "sku": 5, "event_type": "buy", "event_time": 1_736_942_400_123}, *sets)
    assert (parsed["user_id"], parsed["item_id"], parsed["event_time"]) == ("c", "5", 1_736_942_400_123_000)


@pytest.mark.parametrize("user", [None, "", "  ", ...])
def test_event_parser_takes_a_line_without_a_user_as_anonymous(user: object) -> None:
    assert _parse(event(1, user_id=user))["user_id"] is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"user_id": 1.5}, "bad_user_id"),
        ({"user_id": True}, "bad_user_id"),
        ({"item_id": None}, "bad_item_id"),
        ({"item_id": {}}, "bad_item_id"),
        ({"event_type": "view"}, "unknown_type"),
        ({"event_type": None}, "bad_event_type"),
        ({"event_type": ["buy"]}, "bad_event_type"),
        ({"event_time": "yesterday"}, "bad_time"),
        ({"event_time": None}, "bad_time"),
        ({"event_time": "1989-12-31T23:59:59Z"}, "bad_time"),
        ({"event_time": "2025-02-01T06:00:01Z"}, "future"),
        ({"value": "12"}, "bad_value"),
        ({"value": -5}, "bad_value"),
        ({"value": 1e12}, "bad_value"),
        ({"event_id": 1.5}, "bad_event_id"),
        ({"session_id": []}, "bad_session_id"),
        ({"surface": "\ud800"}, "bad_surface"),
        ({"position": 0}, "bad_position"),
        ({"propensity": 1.5}, "bad_propensity"),
    ],
)
def test_event_parser_refuses(fields: dict[str, Any], reason: str) -> None:
    assert _reason(event(1, **fields)) == reason


def test_event_parser_reads_seconds_as_milliseconds_as_a_bad_time() -> None:
    assert _reason(event(1, event_time=1_736_942_400), "events.time_format=epoch_ms") == "bad_time"
    assert _reason(event(1, event_time=1_736_942_400_000), "events.time_format=epoch_s") == "bad_time"


def test_event_parser_takes_an_event_at_the_latest_time() -> None:
    assert _parse(event(1, event_time="2025-02-01T06:00:00Z"))["event_time"] == to_us(RECEIVED_AT)


def test_event_parser_refuses_only_what_is_older_than_the_bound() -> None:
    earliest = datetime(2025, 1, 10, tzinfo=UTC)
    assert _parse(event(1, event_time="2025-01-10T00:00:00Z"), earliest=earliest)
    assert _reason(event(1, event_time="2025-01-09T23:59:59Z"), earliest=earliest) == "too_late"


@pytest.mark.parametrize(("value", "kept"), [(-5, 0.0), (1e12, 1e9), (7, 7.0)])
def test_event_parser_caps_values_when_told(value: float, kept: float) -> None:
    assert _parse(event(1, value=value), "events.on_bad_value=cap")["value"] == kept
    assert _reason(event(1, value=float("nan")), "events.on_bad_value=cap") == "bad_value"


def test_event_parser_skips_unknown_types_when_told() -> None:
    assert _reason(event(1, event_type="view"), "events.unknown_types=skip") == "skipped_type"


def test_event_parser_gives_the_default_type_where_there_is_none() -> None:
    assert _parse(event(1, event_type=...), "events.default_type=buy")["event_type"] == "buy"
    assert _parse(event(1, event_type="return"), "events.default_type=buy")["event_type"] == "return"


def test_event_parser_reads_text_formats() -> None:
    cells = {
        "user_id": "7",
        "item_id": "12.0",
        "event_type": "buy",
        "event_time": "2025-01-02",
        "value": "2.5",
        "position": "3",
    }
    parsed = _parse(cells, as_text=True)
    assert (parsed["item_id"], parsed["value"], parsed["position"]) == ("12.0", 2.5, 3)


def test_type_names_replaces_the_own_name_by_raw_ones() -> None:
    assert type_names(events_section()) == {"purchase": "purchase", "buy": "buy", "bought": "buy", "return": "return"}


def test_event_key_is_the_event_id_of_the_day_when_there_is_one() -> None:
    one = _parse(event(1, event_id="e"))["event_key"]
    assert _parse(event(1, event_id="e", value=9, item_id="other"))["event_key"] == one
    assert _parse(event(1, event_id="f"))["event_key"] != one
    assert _parse(event(1, event_id="e", event_time="2025-01-20T00:00:00Z"))["event_key"] != one


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4).filter(
    lambda text: not text.isspace()
)
_EVENTS = st.fixed_dictionaries(
    {
        "user_id": st.none() | _TEXTS,
        "item_id": _TEXTS,
        "event_type": st.sampled_from(["buy", "return"]),
        "event_time": st.sampled_from(["2025-01-02T00:00:00Z", "2025-01-02T00:00:01Z"]),
        "value": st.none() | st.sampled_from([1.0, 2.0]),
        "session_id": st.none() | _TEXTS,
        "surface": st.none() | _TEXTS,
    }
)


@given(_EVENTS, _EVENTS)
def test_event_key_is_equal_only_for_equal_fields_when_there_is_no_event_id(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    assert (_parse(one)["event_key"] == _parse(two)["event_key"]) == (one == two)


def test_event_key_stays_as_it_was() -> None:
    # Stored keys must be met again by every later version: a change here stores every late duplicate twice.
    assert _parse(event(1))["event_key"] == "2cbf730407486264347e51b34dc28e33"
    assert _parse(event(1, event_id="e"))["event_key"] == "2d71bc8d41b36f6d7fe2636a40dded2a"


ORDER = "events.clock=order"


def test_event_parser_takes_the_place_in_a_history_for_the_time() -> None:
    places = [_parse(event(1, event_time=None, position=place), ORDER, line=9) for place in (0, 1, 7)]
    assert [one["event_time"] - UNDATED_US for one in places] == [0, 1, 7]
    assert {one["position"] for one in places} == {None}  # of a showing
    assert len({one["event_key"] for one in places}) == 3
    assert len({one["ds"] for one in places}) == 1
    assert _parse(event(1, position="3"), ORDER, as_text=True)["event_time"] == UNDATED_US + 3
    for wrong in (-1, 0.5, "x"):
        assert _reason(event(1, position=wrong), ORDER) == "bad_position"


def test_event_parser_takes_the_line_for_the_time_where_there_is_no_place() -> None:
    lines = [_parse(event(1, event_time=None), ORDER, line=line) for line in (1, 2, 2)]
    assert [one["event_time"] - UNDATED_US for one in lines] == [1, 2, 2]
    assert [one["event_key"] == lines[1]["event_key"] for one in lines] == [False, True, True]


def test_event_parser_keeps_lines_beyond_their_file_s_share_of_a_day_before_the_next_file() -> None:
    spec = EventSpec(events_section(ORDER), 0, None, range(UNDATED_US + 100, UNDATED_US + 110))
    assert event_parser(spec, False)(event(1), 12)[EVENT_COLUMNS.index("event_time")] == UNDATED_US + 109


def test_event_parser_without_a_clock_tells_lines_apart_by_what_they_say() -> None:
    one, again, other = (
        _parse(event(1, event_time=time, value=value), "events.clock=none", line=line)
        for line, (time, value) in enumerate([(None, 1), ("2025-01-02", 1), (None, 2)])
    )
    assert one == again
    assert one["event_key"] != other["event_key"]
    assert one["event_time"] == UNDATED_US


@pytest.mark.parametrize("clock", ["order", "none"])
def test_event_parser_without_times_knows_an_event_by_its_id_on_any_day(clock: str) -> None:
    later = EventSpec(events_section(f"events.clock={clock}"), 0, None, range(10**15, 10**15 + 10))
    fields = event(1, event_id="e", event_time=None)
    assert event_parser(later, False)(fields, 3)[0] == _parse(fields, f"events.clock={clock}", line=5)["event_key"]
