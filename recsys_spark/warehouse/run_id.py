"""Run ids: `YYYYMMDD-NNN-<8 hex>`.

Owns: its form.  Every condition on `run_id` that reaches Spark or Delta as text is built from a checked one.
"""

import re
from datetime import date

from recsys_spark.errors import ArgumentError

_RUN_ID = re.compile(r"[0-9]{8}-[0-9]{3}-[0-9a-f]{8}")


def make_run_id(day: date, attempt: int, fingerprint: str) -> str:
    """The id of the `attempt`-th run (from 1) of `day`; `fingerprint` is hex, its first 8 digits are used."""
    return check_run_id(f"{day:%Y%m%d}-{attempt:03d}-{fingerprint[:8]}")


def check_run_id(run_id: str) -> str:
    """`run_id` itself; raises ArgumentError unless the whole text has the form of a run id."""
    if not _RUN_ID.fullmatch(run_id):
        raise ArgumentError(
            f"run_id: expected YYYYMMDD-NNN-<8 hex>, got {run_id[:80]!r}; `recsys-spark status` lists the runs"
        )
    return run_id
