"""The faults that people described for `python -m tests.mutants hand` fit the code as it is."""

from tests.mutants.hand import read_hand


def test_described_faults_fit_the_code() -> None:
    assert read_hand()[1] == []
