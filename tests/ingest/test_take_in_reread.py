"""A file with refused lines is read again only where what was stored of it is known for sure."""

from pathlib import Path

import pytest

from recsys_spark.config.schema import Config
from recsys_spark.ingest import take_in
from recsys_spark.ingest.batches import hash_mapping, make_mapping
from recsys_spark.ingest.take_in import keeps_identity, reread_mappings
from tests.event_files import TYPES
from tests.ingest_world import make_world, with_sets


def _mapping(config: Config, *sets: str) -> str:
    return make_mapping(with_sets(config, *sets), "events", Path("/landing"))


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ((), (), True),
        ((), (TYPES.replace("return=", 'gift={raw=["gift"]},return='),), True),
        ((), (TYPES.replace('"bought"', '"purchased"'),), False),
        ((), ("events.default_type=buy",), True),
        (("events.default_type=buy",), (), False),
        ((), ("events.value_max=5",), True),
        (("events.on_bad_value=cap",), ("events.on_bad_value=cap", "events.value_max=5"), False),
        ((), ("ingest.late_days=400",), True),
        ((), ("events.columns.session_id=visit",), False),
        ((), ("events.timezone=Asia/Tokyo",), False),
        ((), ('events.attributes=["shelf"]',), False),
    ],
)
def test_keeps_identity_when_no_stored_event_can_get_another_key(
    tmp_path: Path, before: tuple[str, ...], after: tuple[str, ...], kept: bool
) -> None:
    config = make_world(tmp_path)
    assert keeps_identity(_mapping(config, *before), _mapping(config, *after)) is kept


def test_reread_mappings_takes_its_own_mapping_only_with_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_world(tmp_path)
    alike, other, now = (
        _mapping(config, *sets) for sets in (("ingest.late_days=9",), ("events.columns.session_id=visit",), ())
    )
    rows = [{"kind": "events", "mapping": mapping} for mapping in (alike, other, now)]
    monkeypatch.setattr(take_in, "read_rows", lambda *_: rows)
    assert reread_mappings(tmp_path, "events", now, history=False) == {hash_mapping(alike)}
    assert reread_mappings(tmp_path, "events", now, history=True) == {hash_mapping(alike), hash_mapping(now)}
    assert reread_mappings(tmp_path, "items", now, history=True) == frozenset()
