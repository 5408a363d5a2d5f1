"""`recsys-spark rules ...` at the command line."""

from pathlib import Path

import pytest

from recsys_spark.cli import main


def test_rules_are_taken_in_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.csv"
    path.write_text(
        "rule_id,kind,item_id,reason,ends_at\nrecall,block,i7,[sent back],\nold,block,i8,,2024-01-01T00:00Z\n"
    )
    warehouse = ["--set", f"storage.root={tmp_path / 'warehouse'}"]
    assert main.main(["rules", "load", str(path), "--date", "2025-01-01", *warehouse]) == 0
    assert "2 rules hold for runs as of 2025-01-01 and later" in capsys.readouterr().out
    assert main.main(["rules", "show", "--date", "2025-01-02", *warehouse]) == 0
    shown = capsys.readouterr().out
    assert "2 rules as of 2025-01-02 (set " in shown
    lines = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.startswith("│")}
    assert " yes " in lines["recall"]
    assert " no " in lines["old"]
    assert main.main(["rules", "show", "--date", "2024-12-31", *warehouse]) == 0
    assert "0 rules as of 2024-12-31" in capsys.readouterr().out


def test_a_faulty_file_ends_with_2_and_names_the_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.csv"
    path.write_text("rule_id,kind,item_id\nx,hide,i7\n")
    assert main.main(["rules", "load", str(path), "--set", f"storage.root={tmp_path / 'warehouse'}"]) == 2
    assert f"{path} row 1 rule_id=x kind" in capsys.readouterr().err
