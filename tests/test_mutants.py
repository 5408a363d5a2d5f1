"""The faults that people described for `python -m tests.mutants hand` fit the code as it is."""

from tests.mutants.hand import AREAS, read_hand


def test_described_faults_fit_the_code() -> None:
    mutants, faults = read_hand()
    assert faults == []
    assert {one.area for one in mutants} == AREAS
