"""What `recsys-spark tune` refuses at the command line, before Spark starts."""

from pathlib import Path

import pytest

from recsys_spark.cli import main


def test_tune_leaves_a_file_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text("")
    assert main.main(["tune", "--out", str(tmp_path / "mine.toml")]) == 2
    assert "expected a file that is not there yet" in capsys.readouterr().err
    assert main.main(["tune", "--out", str(tmp_path / "new.toml"), "--date", "2025-13-01"]) == 2
