"""A row of the table becomes the list that a service gets."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from recsys_spark.errors import ArgumentError
from recsys_spark.serving.answers import Candidate, Source, candidates_of, check_ids, check_k
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.tables import CANDIDATES


def test_candidates_of_gives_every_item_its_own_sources() -> None:
    items = [
        {"item_id": "x", "rank": 1, "score": 0.5, "sources": [{"source": "als", "rank": 2, "score": 3.0}]},
        {"item_id": "y", "rank": 2, "score": 0.25, "sources": []},
        {
            "item_id": "z",
            "rank": 3,
            "score": 0.125,
            "sources": [{"source": "als", "rank": 1, "score": 4.0}, {"source": "item_cf", "rank": 9, "score": 0.1}],
        },
    ]
    made = datetime(2025, 3, 1, 4, tzinfo=UTC)
    # Times that Spark has stored have no zone.
    row = pa.table({"items": pa.array([items], arrow_type(CANDIDATES)), "generated_at": [made.replace(tzinfo=None)]})
    found = candidates_of("ann", row, "segment")
    assert (found.user_id, found.origin) == ("ann", "segment")
    assert found.generated_at == made
    assert found.items[0] == Candidate("x", 1, 0.5, (Source("als", 2, 3.0),))
    assert [[one.source for one in item.sources] for item in found.items] == [["als"], [], ["als", "item_cf"]]


def test_check_k_takes_lists_of_one_and_more() -> None:
    assert check_k("related", 1) == 1
    with pytest.raises(ArgumentError, match="related: expected k of at least 1, got 0"):
        check_k("related", 0)


@pytest.mark.parametrize(("one", "found"), [(7, "got int"), ("\ud800", "got a lone surrogate")])
def test_check_ids_refuses_what_is_no_text(one: object, found: str) -> None:
    check_ids("search", ["a", "\u00e9"])
    with pytest.raises(ArgumentError, match=f"search: expected ids as .*{found}"):
        check_ids("search", ["a", one])
