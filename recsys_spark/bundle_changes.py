"""What a copy of the candidates has to fetch again, if it holds the bundle before.

Owns: the check that the changes of a bundle are those against what the copy holds.
"""

from typing import TYPE_CHECKING

import pyarrow as pa

from recsys_spark.errors import ArgumentError
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.publish_row import check_history
from recsys_spark.warehouse.tables import PUBLISHES

if TYPE_CHECKING:
    from recsys_spark.reader import Bundle


def changed_users(bundle: "Bundle", held_run_id: str) -> pa.Table:
    """user_id, variant and change (added, changed, removed) of every list that is not what run `held_run_id` had.

    Raises ArgumentError if the bundle was compared with another one, as after a rollback, or when a day was left out:
    then every list has to be copied.
    """
    rows = {row.publish_seq: row for row in check_history(read_rows(bundle.root, PUBLISHES))}
    row, before = rows[bundle.publish_seq], rows.get(bundle.publish_seq - 1)
    against = before.run_id if before and row.kind == "publish" else None
    if against != held_run_id:
        raise ArgumentError(
            f"changed_users: expected the run that bundle {bundle.run_id} was compared with, {against or 'none'}, got "
            f"{held_run_id[:80]!r}; copy all of candidates, then keep {bundle.run_id} as the run that is held"
        )
    return bundle.read_table("candidate_changes", ("user_id", "variant", "change"))
