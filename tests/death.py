"""A death at a failpoint, inside this process: for fixtures that outlive a test; a test has the fixture `failpoint`."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from recsys_spark.failpoint import FailpointReached


@contextmanager
def dies_at(name: str) -> Iterator[None]:
    """What is done inside ends at this failpoint; AssertionError if it does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_FAILPOINT", name)
        patch.setenv("RECSYS_FAILPOINT_ACTION", "raise")
        patch.setattr("recsys_spark.failpoint._passages", {})
        with pytest.raises(FailpointReached):
            yield
