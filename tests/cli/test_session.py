"""What surrounds a command that writes, with Spark stood in for."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from recsys_spark.cli.session import writing
from recsys_spark.config.schema import Config
from recsys_spark.errors import LockedError
from recsys_spark.spark import session
from recsys_spark.warehouse.locks import warehouse_lock


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    ends: list[bool] = []
    monkeypatch.setattr(session, "log_startup", lambda _: None)
    monkeypatch.setattr(session, "open_session", lambda *_: SimpleNamespace(stop=lambda: ends.append(True)))
    return ends


def test_writing_makes_the_tables_and_holds_the_warehouse(
    make_config: Callable[..., Config], stopped: list[bool]
) -> None:
    config = make_config()
    with writing(config, "run"):
        assert (config.root / "tables" / "candidates").exists()
        with pytest.raises(LockedError, match="held by `run`"), warehouse_lock(config.root, "gc"):
            pass
    assert stopped == [True]


def test_writing_of_two_steps_goes_on_beside_each_other(make_config: Callable[..., Config]) -> None:
    config = make_config()
    with writing(config, "step als", "als"), writing(config, "step item_cf", "item_cf"):
        pass


def test_metrics_are_written_however_the_command_ends(make_config: Callable[..., Config], tmp_path: Path) -> None:
    path = tmp_path / "recsys.prom"
    config = make_config(f"storage.metrics_file={path}")
    with pytest.raises(ZeroDivisionError), writing(config, "run"):
        _ = 1 / 0
    assert path.exists()
