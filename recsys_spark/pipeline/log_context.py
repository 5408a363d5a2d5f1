"""Log context: the run and step that the process is at, for every line that is logged.

Owns: that state of the process.  Set by the runner, read by `cli.console`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_NOWHERE: dict[str, str] = {}
_where: ContextVar[dict[str, str]] = ContextVar("where", default=_NOWHERE)


def where() -> dict[str, str]:
    """run_id and step, empty outside of a run."""
    return _where.get()


@contextmanager
def at(run_id: str, step: str) -> Iterator[None]:
    """The process is at this step of this run inside the block."""
    token = _where.set({"run_id": run_id, "step": step})
    try:
        yield
    finally:
        _where.reset(token)
