"""The text is TOML whatever the log contains, and every comment is one."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.config.settings_text import Setting, one_line, settings_text

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


@given(TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=3), st.floats(allow_nan=False, allow_infinity=False))
def test_settings_text_reads_back_as_what_was_set(
    why: str, note: str, word: str, names: list[str], number: float
) -> None:
    settings = [Setting("a", word, why), Setting("b", names), Setting("c", number, why)]
    text = settings_text("head", {"s.t": settings, "empty": []}, [note])
    assert tomllib.loads(text) == {"s": {"t": {"a": word, "b": names, "c": number}}}


def test_settings_text_keeps_an_event_type_that_has_nothing_but_defaults() -> None:
    assert tomllib.loads(settings_text("head", {"events.types.view": []}, [])) == {"events": {"types": {"view": {}}}}


def test_settings_text_gives_each_setting_its_reason() -> None:
    text = settings_text("head", {"s": [Setting("a", "b", "because")]}, ["look"])
    assert text.splitlines()[:4] == ["# head", "# - look", "", "[s]"]
    assert text.splitlines()[4].split("# ") == ['a = "b"'.ljust(36), "because"]


@given(st.text(max_size=60))
def test_one_line_is_printable(text: str) -> None:
    assert one_line(text).isprintable()
