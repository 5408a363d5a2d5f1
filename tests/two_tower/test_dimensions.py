"""Sizes of the towers that follow from the settings and the log."""

import pytest

from recsys_spark.errors import EnvironmentFault
from recsys_spark.two_tower import dimensions
from recsys_spark.two_tower.dimensions import check_torch, id_buckets, uses_towers


@pytest.mark.parametrize(
    ("n_items", "most", "expected"), [(0, 1 << 20, 16), (2, 1 << 20, 16), (3, 1 << 20, 32), (1000, 4096, 4096)]
)
def test_id_buckets_are_a_power_of_two_with_room_for_every_item(n_items: int, most: int, expected: int) -> None:
    assert id_buckets(n_items, most) == expected


def test_uses_towers_where_a_source_asks_them(make_config) -> None:
    assert uses_towers(make_config('sources.enabled=["popular","two_tower"]'))
    assert uses_towers(make_config('sources.enabled=["content"]', 'sources.content.by="towers"'))
    assert not uses_towers(make_config('sources.enabled=["content"]', 'sources.content.by="text"'))


def test_check_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    check_torch("demo --towers")
    monkeypatch.setattr(dimensions, "has_torch", lambda: False)
    with pytest.raises(EnvironmentFault, match=r"demo --towers: expected the package torch.*recsys-spark\[towers\]"):
        check_torch("demo --towers")
