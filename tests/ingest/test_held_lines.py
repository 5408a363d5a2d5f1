"""Lines are read ahead for an open cell up to a bound, and given back in their order."""

from recsys_spark.ingest.held_lines import HeldLines, Raw, n_lines_of
from recsys_spark.ingest.quoted_cells import MAX_CELL_LINES, MAX_LONG_CELLS, MAX_RECORD_CHARS


def _take(lines: list[bytes], n_cells: int = 1) -> HeldLines:
    """All lines that an open cell may have."""
    held = HeldLines(enumerate(lines, start=1))
    held.n_cells = n_cells
    for _ in held.texts():
        pass
    return held


def test_texts_end_where_a_cell_has_all_the_lines_that_it_may_have() -> None:
    assert len(_take([b'"a', *[b"x"] * 100], n_cells=3).taken) == MAX_CELL_LINES


def test_texts_go_on_where_a_quote_may_have_begun_another_cell() -> None:
    assert len(_take([b'"a', *[b"x"] * 10, b'x","b', *[b"x"] * 100], n_cells=3).taken) == 11 + MAX_CELL_LINES


def test_texts_end_where_the_record_has_all_the_lines_that_its_cells_may_have() -> None:
    for n_cells in (3, 1000):
        taken = _take([b'x","b'] * 1000, n_cells).taken
        assert len(taken) == min(n_cells, MAX_LONG_CELLS) * MAX_CELL_LINES


def test_texts_end_where_the_record_is_too_long() -> None:
    line = b"x" * (MAX_RECORD_CHARS // 4)
    assert len(_take([line] * 10, n_cells=3).taken) == 4  # with their line feeds they are over the bound


def test_give_back_keeps_the_first_line_and_reads_the_others_again() -> None:
    held = HeldLines(enumerate([b"a", b"b", b"c", b"d"], start=1))
    texts = held.texts()
    assert [next(texts) for _ in range(3)] == ["a\n", "b\n", "c\n"]
    assert held.raw() == b"a\nb\nc"
    held.give_back()
    assert held.raw() == b"a"
    held.taken = []
    assert list(held.texts()) == ["b\n", "c\n", "d\n"]


def test_n_lines_of_counts_line_feeds() -> None:
    assert [n_lines_of(raw) for raw in (b"", b"a", b"a\n\nb", Raw(b"a", "", 9))] == [1, 1, 3, 1]
