"""Settings that were chosen lie over those that were given."""

from collections.abc import Callable
from datetime import date

import pytest
from pydantic import ValidationError

from recsys_spark.config import choices
from recsys_spark.config.choices import as_chosen, choices_note, read_choices, shape_note, with_settings
from recsys_spark.config.schema import Config
from tests.small_shop import make_shop


def test_settings_of_every_depth_are_laid_over(make_config: Callable[..., Config]) -> None:
    config = make_config()
    changed = with_settings(
        config,
        {"als.alpha": 9.0, "sources.item_cf.half_life_days": 0.0, "candidates.score_weights": {"als": 0.5}},
    )
    assert (changed.als.alpha, changed.candidates.score_weights) == (9.0, {"als": 0.5})
    assert changed.sources.params("item_cf")["half_life_days"] == 0.0
    assert config.als.alpha != 9.0
    assert changed.places == config.places
    with pytest.raises(ValidationError):
        with_settings(config, {"als.alpha": -1.0})


def test_what_a_person_wrote_since_is_not_laid_over(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"als.alpha": 9.0, "als.regularization": 0.5, "candidates.score_weights": {"als": 1.0}}'
    rows = [{"kind": "als", "settings": '{"als.alpha": 4.0}'}, {"kind": "settings", "settings": text}]
    monkeypatch.setattr(choices, "read_choices", lambda *_: rows)
    config = as_chosen(make_config("als.alpha=2.0"), "20250101-001-00000000")
    assert (config.als.alpha, config.als.regularization) == (2.0, 0.5)
    assert config.candidates.score_weights == {"als": 1.0}


def test_a_run_that_chose_nothing_changes_nothing(tmp_path) -> None:
    config = make_shop(tmp_path)
    assert read_choices(config.root, "20250101-001-00000000") == []
    assert as_chosen(config, "20250101-001-00000000") == config


def test_the_note_of_a_run_says_what_was_chosen_and_what_it_finds() -> None:
    day = date(2025, 3, 1)
    whole = {"kind": "settings", "name": "all", "made_on": day, "held_out": "20 days from 2025-02-09 on", "why": ""}
    ways = [("rrf", 0.1, False), ("scores", 0.125, True), ("als", 0.11, False)]
    rows = [{"kind": "blend", "name": name, "recall": recall, "chosen": is_it} for name, recall, is_it in ways]
    rows += [{"kind": "low_pass", "name": "left out", "recall": 0.01, "chosen": True}, whole]
    rows += [{"kind": "two_tower", "name": "not tried", "recall": None, "chosen": False}]
    (note,) = choices_note(rows, day)
    assert note == (
        "chosen by 20 days from 2025-02-09 on: scores finds 0.1250; next to it als 0.1100; left out: low_pass; "
        "not tried: two_tower (mean of recall@10 and @20; see explain)"
    )
    assert choices_note(rows, date(2025, 3, 4))[0].startswith("as chosen on 2025-03-01 by")
    assert choices_note([whole | {"why": "no setting is auto"}], day) == [
        "settings that are auto have their fallbacks: no setting is auto"
    ]
    assert choices_note([], day) == []


def test_a_run_says_what_its_log_is_like(make_config: Callable[..., Config]) -> None:
    figures = {"n_users": 5551.0, "n_items": 16921.0, "n_interactions": 163962.0, "density": 0.0017456}
    config = make_config("events.clock=none", 'sources.enabled=["popular","als"]')
    assert shape_note(figures, config) == (
        "5,551 users had 16,921 items, 163,962 pairs (density 0.0017), no times; sources that are tried: popular, als"
    )
