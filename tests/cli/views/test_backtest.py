"""What is printed of a backtest, on two dates of four users that can be counted by hand."""

from datetime import date

import numpy as np
import pytest
from rich.console import Console as RichConsole
from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.cli.views.backtest import (
    differences_table,
    groups_table,
    list_names,
    lists_table,
    promises_table,
    segment_gap,
    show_backtest,
    tallies,
)
from recsys_spark.evaluation.kernels.figures import ALL, RATE, Figure
from recsys_spark.numeric.bootstrap import Tally, draw, tally, user_keys
from recsys_spark.operations.backtest import Folds

DRAWS = draw(user_keys([f"user-{at}" for at in range(40)]), 1)


def folds(published: float = 0.5) -> Folds:
    """als finds a fourth, published lists find `published`; on the second date one segment has nobody."""
    found: Folds = {}
    for day in (date(2025, 1, 1), date(2025, 2, 1)):
        of_day = found.setdefault(day, {})
        for name, value in (("als", 0.25), ("published", published)):
            for group in (ALL, "users/segment=FR", "users/segment=IS"):
                values = np.full(40, np.nan if group.endswith("IS") and day.month == 2 else value)
                values += 0.1 if group.endswith("FR") else 0.0
                for metric in ("recall", "ndcg"):
                    of_day[Figure(name, group, metric, 20)] = tally(values, DRAWS)
            of_day[Figure(name, ALL, "coverage", 20)] = Tally(np.ones(1), np.array([0.125]))
            for place in range(1, 21):
                of_day[Figure(name, ALL, RATE, place)] = tally(np.arange(40) < 80 / (3 + place), DRAWS)
    return found


def text(table: Table) -> str:
    console = RichConsole(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_lists_have_an_interval_and_what_has_none_says_so() -> None:
    shown = text(lists_table(folds()))
    assert "2 dates, 40 + 40 users, lists cut to 20" in shown
    assert "0.5000 (0.5000 to 0.5000)" in shown
    assert "0.1250 " in shown
    assert "none" in shown, "no figure was given for hit"


def test_places_that_keep_what_they_promised_have_a_small_calibration_error() -> None:
    shown = text(promises_table(folds()))
    assert "Promises of the first 20 places, kept on 1 dates" in shown
    row = next(line for line in shown.splitlines() if "published" in line)
    loss, error = (cell.strip() for cell in row.strip("│").split("│")[1:])
    assert float(error) == pytest.approx(0.5 / 41, abs=0.012)  # half a user is added to both outcomes
    assert 0.3 < float(loss.split(" ")[0]) < 0.6


def test_differences_are_of_the_published_lists_or_of_the_same_list() -> None:
    assert "+0.2500 (+0.2500 to +0.2500)" in text(differences_table(folds(), folds(), "paired"))
    other = text(differences_table(folds(), folds(0.75), "others", same=True))
    assert "-0.2500 (-0.2500 to -0.2500)" in other
    assert "+0.0000 (+0.0000 to +0.0000)" in other


def test_groups_count_their_users_and_tell_the_gap_between_segments() -> None:
    shown = text(groups_table(folds()))
    assert [cell.strip() for cell in shown.splitlines()[-2].split("│")[1:3]] == ["users/segment=IS", "40"]
    assert segment_gap(folds()).endswith("from 0.5000 (IS) to 0.6000 (FR), a gap of 0.1000")
    assert len(tallies(folds(), Figure("als", "users/segment=IS", "recall", 20))) == 1


def test_a_list_that_a_date_lacks_is_not_shown() -> None:
    found = folds()
    found[date(2025, 1, 1)][Figure("blend/scores", ALL, "recall", 20)] = tally(np.ones(40), DRAWS)
    assert list_names(found) == ["published", "als"]


def test_all_of_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_backtest(folds(), Console(json_logs=False), folds(0.75))
    printed = capsys.readouterr().out
    assert "the same users" in printed
    assert "a gap of" in printed
    assert "other backtest" in printed


def test_dates_on_which_nobody_was_judged_are_named_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    show_backtest(folds() | {date(2025, 3, 1): {}}, Console(json_logs=False))
    printed = capsys.readouterr().out
    assert "in the window of 2025-03-01" in printed
    assert "2 dates, 40 + 40 users" in printed
    show_backtest({date(2025, 3, 1): {}}, Console(json_logs=False))
    assert "lists cut to" not in capsys.readouterr().out


def test_shorter_lists_are_shown_at_their_length() -> None:
    short = {day: {one._replace(k=7): tally for one, tally in figures.items()} for day, figures in folds().items()}
    assert "lists cut to 7" in text(lists_table(short))
    assert "recall@7" in text(groups_table(short))
