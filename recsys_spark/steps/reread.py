"""Which files with refused lines are read again, because other settings may let those lines in.

Owns: the rule by which a second reading is safe.  Called by `take_in` before a landing folder is sorted.
"""

import json
from typing import Any

from pydantic import ValidationError

from recsys_spark.config.schema import Events
from recsys_spark.kernels.parse_event import type_names
from recsys_spark.steps.batch import hash_mapping
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.tables import INGEST_BATCHES

_TYPES = {"types", "unknown_types", "default_type"}
_VALUES = {"value_min", "value_max", "on_bad_value"}


def reread_mappings(root: Location, kind: str, mapping: str, history: bool) -> frozenset[str]:
    """Hashes of the mappings whose files are read again, under `mapping`, if lines of theirs were refused.

    Those under which a stored event has the same identity as under `mapping`, so that a second reading finds it as a
    duplicate; `mapping` itself only with `history`, which lets in what was too late.  Snapshots are never read again:
    an old one would be dated anew, and the next one brings all of its rows.
    """
    if kind != "events":
        return frozenset()
    current = hash_mapping(mapping)
    earlier = {hash_mapping(row["mapping"]): row["mapping"] for row in read_rows(root, INGEST_BATCHES)
               if row["kind"] == kind}  # fmt: skip
    alike = {one for one, text in earlier.items() if one != current and keeps_identity(text, mapping)}
    return frozenset(alike | ({current} if history else set()))


def keeps_identity(old: str, new: str) -> bool:
    """Whether every event that mapping `old` let in has the same event_key under `new`; both are JSON of a batch."""
    try:
        before, after = (Events.model_validate(json.loads(text)["feed"]) for text in (old, new))
    except ValidationError:
        return False  # settings of another version: nothing is known of its keys
    # A type may be added, but none may change its meaning; so it is with the type of lines that give none.
    if not type_names(before).items() <= type_names(after).items():
        return False
    if before.default_type not in ("", after.default_type):
        return False
    return _keyed_parts(before) == _keyed_parts(after)


def _keyed_parts(events: Events) -> dict[str, Any]:
    """The settings that decide the fields of an event that is let in, beside its type."""
    # Bounds that refuse leave the values that they let in as they are; bounds that cap change them.
    left_out = _TYPES | (_VALUES if events.on_bad_value == "quarantine" else set())
    return events.model_dump(mode="json", exclude=left_out)
