"""One line alone: a quote is a letter unless it encloses a whole cell."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.ingest.quoted_cells import cells_of_line


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ('a,"b', ["a", '"b']),
        ('"a,b",c', ["a,b", "c"]),
        ('"a,b","c', ["a,b", '"c']),
        ('"say ""hi""","', ['say "hi"', '"']),
        ('5"",x,"', ['5""', "x", '"']),
        ('"', ['"']),
        ('a,"b\r', ["a", '"b']),
        ("a,", ["a", ""]),
        ("", []),
    ],
)
def test_cells_of_line_takes_a_lone_quote_for_a_letter(text: str, cells: list[str]) -> None:
    assert cells_of_line(text + "\n", ",") == cells


def test_cells_of_line_refuses_a_letter_after_a_closed_cell_but_in_tab_separated_text() -> None:
    with pytest.raises(csv.Error):
        cells_of_line('"a"b,c\n', ",")
    assert cells_of_line('"a"b\tc\n', "\t") == ['"a"b', "c"]
    assert cells_of_line('"5 inch\tx\t"y"\tz\t"\n', "\t") == ['"5 inch', "x", "y", "z", '"']


@given(st.lists(st.text("ab\"', ,\t", max_size=6), min_size=2, max_size=5), st.sampled_from(",\t"))
def test_cells_of_line_reads_what_the_csv_module_wrote(cells: list[str], mark: str) -> None:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n", delimiter=mark).writerow(cells)
    assert cells_of_line(sink.getvalue(), mark) == cells
