"""What `lookup` shows for known and unknown users."""

from pathlib import Path

import pytest

from recsys_spark.cli.console import Console
from recsys_spark.cli.views.lookup import show_related, show_user
from tests.made_warehouse import RUN_A, publish_bundle


@pytest.fixture
def show(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    publish_bundle(tmp_path, RUN_A, ["ann", "[bold]"], {"bob": "UK", "eve": "[/x]"})
    console = Console(json_logs=False)
    console.rich.width = 200

    def look(user: str, segment: str | None = None) -> str:
        show_user(tmp_path, user, 2, segment, console)
        return capsys.readouterr().out

    return look


def test_show_user_gives_recent_items_titles_and_reasons(show) -> None:
    shown = show("ann")
    assert "a list of their own" in shown
    assert "Recent items" in shown
    assert f"Title i1 of {RUN_A}" in shown
    assert "s0/ann #1" in shown
    assert "Candidates (2 of 3)" in shown


def test_show_user_says_when_the_list_is_the_segments_or_everybodys(show) -> None:
    assert "the list of segment UK" in show("bob")
    assert "the list of segment UK" in show("stranger", "UK")
    assert "the list for everybody" in show("stranger")


def test_show_user_prints_an_id_that_looks_like_markup_as_it_is(show) -> None:
    assert "[bold]: " in show("[bold]")


def test_show_user_prints_a_segment_and_a_source_that_look_like_markup_as_they_are(show) -> None:
    assert "the list of segment [/x]" in show("eve")
    assert "s0/[bold] #1" in show("[bold]")


def test_show_related_gives_titles_in_the_order_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_bundle(tmp_path, RUN_A, ["ann"])
    console = Console(json_logs=False)
    console.rich.width = 200
    show_related(tmp_path, "i1", None, 2, console)
    alone = capsys.readouterr().out
    assert f"Title i2 of {RUN_A}" in alone
    assert "Related items (2)" in alone
    show_related(tmp_path, "i1", "ann", 9, console)
    # ann's recent items are i2 and i1.
    of_ann = capsys.readouterr().out
    assert f"Title i2 of {RUN_A}" not in of_ann
    assert "for ann (3)" in of_ann


def test_show_related_says_that_an_item_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_bundle(tmp_path, RUN_A, ["ann"])
    show_related(tmp_path, "[x]", None, 2, Console(json_logs=False))
    assert "[x]: unknown to this run" in capsys.readouterr().out
