"""Faults that a worker names, on their way to the user: Spark wraps them into exceptions of its own.

Owns: finding the fault in what Spark says.
"""

import re

from recsys_spark import errors
from recsys_spark.errors import RecsysError

# The last line, or lines, of a traceback as Spark quotes it; after it come a blank line and the JVM's own.
_FAULT = re.compile(
    r"^(?:.*: )?recsys_spark\.errors\.(\w+): (.*?)(?=\n\s*\n|\n\s+at |\nDriver stacktrace|\Z)", re.M | re.S
)


def named_fault(err: Exception) -> RecsysError | None:
    """The fault that a worker raised and `err` reports; None if it reports none.

    Of faults that were raised one from the other it is the last.
    """
    found = _FAULT.findall(str(err))
    if not found:
        return None
    name, text = found[-1]
    kind = getattr(errors, name, None)
    is_fault = isinstance(kind, type) and issubclass(kind, RecsysError)
    return kind(text.strip()) if is_fault and kind is not None else None
