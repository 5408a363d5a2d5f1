"""Candidates of a task's users, by the settings of their variant, counted; and the lists of segments."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from recsys_spark.blend.block import list_maker, segment_lists
from recsys_spark.blend.collect import LIST_FIELDS
from recsys_spark.blend.kernels.diversity import Diversity, ItemTraits
from recsys_spark.blend.worker import BlendBroadcast
from recsys_spark.ingest.rules import Rule
from recsys_spark.warehouse.arrow import arrow_schema, form_of
from recsys_spark.warehouse.tables import CANDIDATE_LISTS
from tests.blend_batches import make_shared, ranked
from tests.rule_oracle import IDS, compiled

MADE_AT = datetime(2025, 3, 1, 4, 30, tzinfo=UTC)
ROWS = [("top", None, ranked(1, 2, 3)), ("near", "FR", ranked(5))]
SOURCES = ("als", "near", "top")


@dataclass(frozen=True)
class Sent:
    value: dict[str, BlendBroadcast]


def user(user_idx: int, segment: str | None, excluded: list[int], variant: str = "main", is_new: bool = False) -> dict:
    named = {"user_idx": user_idx, "user_id": f"u{user_idx}", "segment": segment}
    return named | {"excluded": excluded, "variant": variant, "is_new": is_new}


def listed(user_idx: int, *items: int) -> dict:
    return {"user_idx": user_idx, "source": "als", "item_idx": list(items), "score": [1.0] * len(items)}


def make(shared: dict[str, BlendBroadcast], *rows: dict) -> tuple[list[dict], Counter[str], list[pa.RecordBatch]]:
    schema = pa.schema(
        [
            ("user_idx", pa.int32()),
            ("user_id", pa.string()),
            ("segment", pa.string()),
            ("excluded", pa.list_(pa.int32())),
            ("variant", pa.string()),
            ("is_new", pa.bool_()),
            *LIST_FIELDS,
        ]
    )
    counts: Counter[str] = Counter()
    batches = list(list_maker(Sent(shared), MADE_AT)(iter([pa.RecordBatch.from_pylist(list(rows), schema)]), counts))
    return [row for batch in batches for row in batch.to_pylist()], counts, batches


def test_list_maker_joins_own_segment_and_common_lists_and_counts_them() -> None:
    shared = make_shared(ROWS, SOURCES, weights=(1.0, 1.0, 0.5))
    rows, counts, batches = make(
        {"main": shared},
        user(0, "FR", [1]),
        user(1, None, [2]),
        listed(1, 4, 1),
        user(2, None, [1, 2, 3]),
        user(3, None, [3]),
        user(4, None, [], is_new=True),  # without a list of their own: no row
        user(5, None, [], is_new=True),
        listed(5, 7),
    )
    assert [(row["user_id"], [item["item_id"][-1] for item in row["items"]]) for row in rows] == [
        ("u0", ["5", "2", "3"]),
        ("u1", ["1", "4", "3"]),  # 1/62 + 0.5/61 for item 1, 1/61 for item 4
        ("u2", []),
        ("u3", ["1", "2"]),
        ("u5", ["7", "1", "2"]),
    ]
    assert {(row["variant"], row["generated_at"]) for row in rows} == {("main", MADE_AT)}
    expected = {"n_users": 5, "n_candidates": 11, "n_short": 2, "n:als": 3, "n:near": 1, "n:top": 8}
    expected |= {"rung:history": 1, "rung:features": 1, "rung:segment": 1, "rung:everybody": 1, "rung:none": 1}
    assert {name: count for name, count in counts.items() if count} == expected
    types = {field.name: form_of(field.type) for field in arrow_schema(CANDIDATE_LISTS) if field.name != "run_id"}
    assert {field.name: form_of(field.type) for field in batches[0].schema} == types


def test_list_maker_makes_each_list_by_the_settings_of_its_variant_and_keeps_the_order() -> None:
    main = make_shared(ROWS, SOURCES)
    other = replace(main, settings=replace(main.settings, weights=(0.0, 1.0, 1.0)))
    users = [(number, "other" if number % 3 == 1 else "main") for number in range(9)]
    rows, _, _ = make(
        {"main": main, "other": other},
        *(row for number, variant in users for row in (user(number, None, [], variant), listed(number, 9))),
    )
    assert [(row["user_id"], row["variant"]) for row in rows] == [(f"u{number}", variant) for number, variant in users]
    assert all(("item 9" in {item["item_id"] for item in row["items"]}) == (row["variant"] == "main") for row in rows)


def test_segment_lists_has_a_row_for_everybody_and_for_each_segment_with_a_list_or_a_rule() -> None:
    shared = make_shared(ROWS, SOURCES, k=2)
    pin = Rule(rule_id="front", kind="pin", item_id=IDS[8], position=1, segment="IS")
    for one, segments in ((shared, [None, "FR"]), (replace(shared, rules=compiled((pin,))), [None, "FR", "IS"])):
        rows = segment_lists(one).to_pylist()
        assert [row["segment"] for row in rows] == segments
        found = {row["segment"]: [item["item_id"][-1] for item in row["items"]] for row in rows}
        assert (found[None], found["FR"]) == (["1", "2"], ["1", "5"])
    assert found["IS"] == ["8", "1"]


def test_segment_lists_are_calibrated_to_no_history() -> None:
    shared, traits = make_shared(ROWS, SOURCES, k=2), ItemTraits(categories=np.zeros(10, np.int32))
    calibrated = replace(shared.settings, diversity=Diversity(calibration_weight=0.5))
    known = replace(shared, settings=calibrated, traits=traits, categories=pa.array(["shoes"]))
    rows = segment_lists(known).to_pylist()
    assert rows == segment_lists(shared).to_pylist()
