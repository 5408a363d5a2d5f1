"""The options that most commands share: what they lay over the defaults, and what is refused at once."""

from pathlib import Path

import pytest

from recsys_spark.cli.options import published, settings_of
from recsys_spark.errors import ArgumentError, ConfigError, NothingPublished
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.tables import PUBLISHES


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_settings_of_finds_the_file_in_the_folder_and_lays_sets_over_it(tmp_path: Path) -> None:
    (tmp_path / "recsys.toml").write_text("[candidates]\nk = 7\n[run]\nseed = 3\n")
    config = settings_of("local", None, ["run.seed=4"])
    assert (config.candidates.k, config.run.seed) == (7, 4)


def test_settings_of_takes_the_file_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "recsys.toml").write_text("[candidates]\nk = 7\n")
    (tmp_path / "other.toml").write_text("[candidates]\nk = 8\n")
    assert settings_of("local", tmp_path / "other.toml", None).candidates.k == 8


@pytest.mark.parametrize("profile", ["../local", "Local", "", "a" * 33])
def test_settings_of_refuses_a_profile_that_is_no_name(profile: str) -> None:
    with pytest.raises(ArgumentError, match="--profile: expected the name of a file in conf/"):
        settings_of(profile, None, None)


def test_settings_of_checks_the_sources_too() -> None:
    with pytest.raises(ConfigError, match=r"\[sources.als\] max_items"):
        settings_of("local", None, ["sources.als.max_items=0"])


def test_published_wants_a_warehouse(tmp_path: Path) -> None:
    config = settings_of("local", None, [f"storage.root={tmp_path / 'warehouse'}"])
    with pytest.raises(NothingPublished, match="expected a warehouse, got none"):
        published(config)
    assert not (tmp_path / "warehouse").exists()
    create_tables(config.root, [PUBLISHES])
    assert published(config) is config
