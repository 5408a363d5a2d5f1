"""A wide search writes a file that every command can load, and what it wrote is no longer for a run to choose."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.errors import ArgumentError
from recsys_spark.ingest.step_ingest import ingest
from recsys_spark.operations.tune import tune, tuned_text, write_tuned
from recsys_spark.validation.grid import Grid
from recsys_spark.validation.tried import Chosen, Tried
from tests.small_shop import FIRST_DAY, land_days, make_shop


def test_tune_chooses_by_what_was_held_out_before_the_date(spark: SparkSession, tmp_path: Path) -> None:
    auto = ("validation.min_users=20", "candidates.method=auto", "als.factors=4")
    config = make_shop(tmp_path, *auto)
    land_days(config, FIRST_DAY, 25)
    ingest(spark, config)
    grid = Grid({"item_cf": [{"item_cf.similarity": "cosine"}], "als": [{"als.alpha": 9.0}]}, {})
    made, held_out = tune(spark, config, FIRST_DAY + timedelta(days=20), lambda _: None, grid)
    assert held_out == "4 days from 2025-01-17, 2025-01-13, 2025-01-09 on"
    assert {one.kind for one in made.tried} >= {"item_cf", "als", "blend"}
    assert "candidates.method" in made.settings
    # What was best as configured is written too.
    assert {"item_cf.similarity", "als.alpha", "als.regularization", "sources.item_cf.half_life_days"} <= set(
        made.settings
    )
    file = tmp_path / "tuned.toml"
    write_tuned(tuned_text(made, held_out), file)
    tuned = load_config(file=file)
    assert not set(made.settings) & set(tuned.validation.auto)
    with pytest.raises(ArgumentError, match=r"expected at least 500 users to judge by, got \d+; lower"):
        tune(
            spark,
            make_shop(tmp_path / "b", *auto, "validation.min_users=500", f"storage.root={config.root}"),
            FIRST_DAY + timedelta(days=20),
            lambda _: None,
            grid,
        )


def test_the_file_says_what_each_setting_found() -> None:
    settings = {"als.alpha": 9.0, "als.factors": 64}
    weights = {"als": 1.0, "popular/global": 0.25}
    blend = {"candidates.method": "scores", "candidates.score_weights": weights}
    made = Chosen(
        [
            Tried("als", "as configured", {}, np.array([0.1, 0.2])),
            Tried("als", "a", settings, np.array([0.2, 0.3]), True),
            Tried("blend", "scores", blend, np.array([0.25, 0.35]), True),
        ],
        settings=settings | blend,
    )
    text = tuned_text(made, "28 days from 2025-01-01 on")
    assert "28 days from 2025-01-01 on" in " ".join(line.lstrip("# ") for line in text.splitlines())
    assert "0.3000" in text
    assert "alpha = 9.0                         # als finds 0.2500, as configured 0.1500" in text
    assert '[candidates.score_weights]\n"als" = 1.0\n"popular/global" = 0.25\n' in text


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "tuned.toml").write_text("mine")
    with pytest.raises(ArgumentError, match="expected a file that is not there yet"):
        write_tuned("text", tmp_path / "tuned.toml")
    assert (tmp_path / "tuned.toml").read_text() == "mine"


def test_tune_needs_a_setting_that_is_auto(spark: SparkSession, tmp_path: Path) -> None:
    config = make_shop(tmp_path)
    settled = config.model_copy(update={"validation": config.validation.model_copy(update={"auto": []})})
    with pytest.raises(ArgumentError, match="expected settings that are auto, got none"):
        tune(spark, settled, FIRST_DAY, lambda _: None)
