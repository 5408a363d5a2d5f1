"""What services import keeps its place and its names; that it is light is tested beside `serving.bundle`."""

from recsys_spark import reader


def test_what_services_import_is_here() -> None:
    assert {
        *("Bundle", "BundleExpired", "Candidate", "Candidates", "Ladder", "Related", "Scored", "Source"),
        *("changed_users", "merge", "open_current", "open_index"),
    } == set(reader.__all__)
    assert all(hasattr(reader, name) for name in reader.__all__)
