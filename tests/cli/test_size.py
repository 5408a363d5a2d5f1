"""What `recsys-spark size` refuses at the command line."""

import pytest

from recsys_spark.cli import main


@pytest.mark.parametrize("options", [[], ["--users", "5"], ["--users", "0", "--items", "1"]])
def test_size_ends_with_2_without_users_and_items(options: list[str]) -> None:
    assert main.main(["size", *options]) == 2


def test_size_refuses_a_setting_out_of_its_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["size", "--users", "5", "--items", "5", "--factors", "5000"]) == 2
    assert "[als] factors" in capsys.readouterr().err
