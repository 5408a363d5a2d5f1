"""Snapshots may come in any order and any batches; what holds at a time is what the snapshot of that time said."""

from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.ingest.catalogue_history import Arrival, Verdict, merge_history

DAY = 86_400_000_000


def _arrivals(*rows: tuple[int, str], dated_by_file: bool = True) -> list[Arrival]:
    return [Arrival(day * DAY, content, 0, line, dated_by_file) for line, (day, content) in enumerate(rows, start=1)]


def _new(verdicts: list[Verdict]) -> list[tuple[int, int]]:
    return [(one.time_us // DAY, one.line) for one in verdicts if one.kind == "new"]


def test_merge_history_stores_changes_only() -> None:
    verdicts = list(merge_history([], _arrivals((1, "a"), (2, "a"), (3, "b"), (4, "a")), []))
    assert _new(verdicts) == [(1, 1), (3, 3), (4, 4)]
    assert [one.line for one in verdicts if one.kind == "duplicate"] == [2]


def test_merge_history_takes_the_last_of_rows_for_the_same_time() -> None:
    verdicts = list(merge_history([], _arrivals((1, "a"), (1, "b")), []))
    assert _new(verdicts) == [(1, 2)]
    assert [one.line for one in verdicts if one.kind == "duplicate"] == [1]


def test_merge_history_knows_what_is_stored() -> None:
    stored = [(1 * DAY, "a"), (3 * DAY, "b")]
    assert _new(list(merge_history(stored, _arrivals((2, "a"), (4, "b"), (5, "c")), [DAY, 3 * DAY]))) == [(5, 3)]


def test_merge_history_ends_a_late_change_at_the_next_snapshot() -> None:
    # Day 3 had confirmed "a" of day 1 without a row of its own.
    verdicts = list(merge_history([(DAY, "a")], _arrivals((2, "b")), [DAY, 3 * DAY]))
    assert verdicts == [Verdict("new", 2 * DAY, 0, 1), Verdict("restored", 3 * DAY, source_us=DAY)]


def test_merge_history_restores_nothing_where_the_batch_brings_the_next_snapshot_again() -> None:
    verdicts = list(merge_history([(DAY, "a")], _arrivals((2, "b"), (3, "c")), [DAY, 3 * DAY]))
    assert verdicts == [Verdict("new", 2 * DAY, 0, 1), Verdict("new", 3 * DAY, 0, 2)]


def test_merge_history_lets_a_change_hold_when_the_row_dates_itself() -> None:
    verdicts = list(merge_history([(DAY, "a")], _arrivals((2, "b"), dated_by_file=False), [DAY, 3 * DAY]))
    assert verdicts == [Verdict("new", 2 * DAY, 0, 1)]


def test_merge_history_corrects_a_snapshot_that_comes_again() -> None:
    stored = [(DAY, "a")]
    (verdict,) = merge_history(stored, _arrivals((1, "b")), [DAY])
    assert verdict == Verdict("new", DAY + 1, 0, 1)
    stored.append((verdict.time_us, "b"))
    assert [one.kind for one in merge_history(stored, _arrivals((1, "b")), [DAY])] == ["duplicate"]


def _as_of(rows: list[tuple[int, str]], time_us: int) -> str:
    return max((row for row in rows if row[0] <= time_us), default=(0, ""))[1]


@given(st.permutations(list(range(1, 7))), st.lists(st.sampled_from("abc"), min_size=6, max_size=6), st.data())
def test_merge_history_holds_every_snapshot_in_any_order_and_batching(
    order: list[int], contents: list[str], data: st.DataObject
) -> None:
    said = dict(zip(range(1, 7), contents, strict=True))
    rows: list[tuple[int, str]] = []
    snapshots: list[int] = []
    while order:
        n_days = data.draw(st.integers(1, len(order)))
        batch, order = order[:n_days], order[n_days:]
        arriving = _arrivals(*((day, said[day]) for day in batch))
        verdicts = list(merge_history(sorted(rows), arriving, sorted(snapshots)))
        assert sum(one.kind != "restored" for one in verdicts) == len(batch)
        by_line = {one.line: one.content for one in arriving}
        held = dict(rows)
        rows += [(one.time_us, by_line[one.line]) for one in verdicts if one.kind == "new"]
        rows += [(one.time_us, held[one.source_us]) for one in verdicts if one.kind == "restored"]
        snapshots += [day * DAY for day in batch]
        assert len({time_us for time_us, _ in rows}) == len(rows)
        for time_us in snapshots:
            assert _as_of(rows, time_us) == said[time_us // DAY]
