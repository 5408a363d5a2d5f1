"""Named faults: one exception class per cause, each with the exit code that its command ends with.

A message reads `<where>: expected <what>, got <value>; <what to do>`.  Anything that is not a `RecsysError` is a crash
(exit 1) and keeps its traceback.
"""

EXIT_DONE = 0
EXIT_CRASH = 1
EXIT_BAD_INPUT = 2
EXIT_REFUSED = 3
EXIT_LOCKED = 4


class RecsysError(Exception):
    """A fault with a name; the command prints its message without a traceback and ends with `exit_code`."""

    exit_code = EXIT_CRASH


class ArgumentError(RecsysError):
    """A command-line argument that cannot be used."""

    exit_code = EXIT_BAD_INPUT


class ConfigError(RecsysError):
    """A setting that is unknown, of the wrong type or out of range."""

    exit_code = EXIT_BAD_INPUT


class EnvironmentFault(RecsysError):  # noqa: N818 - the fault is the machine's
    """Something that the machine must have is missing: Java, the Delta jar, a writable warehouse."""

    exit_code = EXIT_BAD_INPUT


# Packages that an install may lack, by the extra of this product that brings them.
EXTRAS = {
    "spark": ("pyspark", "py4j", "delta", "pandas", "numba", "scipy", "packaging"),
    "index": ("faiss",),
    "towers": ("torch",),
    "report": ("sklearn", "threadpoolctl"),
}


def missing_extra(where: str, err: ModuleNotFoundError) -> EnvironmentFault | None:
    """The fault of an install without the extra that `err` misses; None if the module is of no extra."""
    name = (err.name or "").split(".")[0]
    extra = next((extra for extra, packages in EXTRAS.items() if name in packages), None)
    if extra is None:
        return None
    return EnvironmentFault(
        f"{where}: expected the package {name}, got an install without it; run `pip install 'recsys-spark[{extra}]'`, "
        f"in a checkout `uv sync --extra {extra}`"
    )


class StoreFault(RecsysError):  # noqa: N818 - the fault is the store's
    """An object store that did not answer, or refused; the command may be run again as it was."""

    exit_code = EXIT_CRASH


class ContractError(RecsysError):
    """A frame or a table that does not keep its contract; all faults of one check are in one message."""

    exit_code = EXIT_CRASH


class KernelError(RecsysError):
    """Input that a kernel cannot compute with; the message says what to change."""

    exit_code = EXIT_CRASH


class BoundExceeded(KernelError):  # noqa: N818 - it is a verdict on a size
    """What is to be broadcast to every worker is larger than its bound."""


class GateRefused(RecsysError):  # noqa: N818 - it is a verdict, not an error of the program
    """A gate refused the day's data or bundle; the last good bundle stays current."""

    exit_code = EXIT_REFUSED


class DamagedError(RecsysError):
    """Stored data that no longer matches its recorded hash, count or form."""

    exit_code = EXIT_REFUSED


class LockedError(RecsysError):
    """Another command holds the warehouse, or won the race for the same publish."""

    exit_code = EXIT_LOCKED


class BundleExpired(RecsysError):  # noqa: N818 - the name is part of the reader's public contract
    """The bundle that a reader holds was collected after its grace; `bundle.refresh()` opens the current one."""

    exit_code = EXIT_REFUSED


class NothingPublished(RecsysError):  # noqa: N818 - the name is part of the reader's public contract
    """The warehouse has no published bundle yet."""

    exit_code = EXIT_BAD_INPUT
