"""What `lookup` shows for known and unknown users."""

from pathlib import Path

import pytest

from recsys_spark.console import Console
from recsys_spark.lookup import show_user
from tests.warehouse import RUN_A, publish_bundle


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
