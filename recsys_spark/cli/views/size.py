"""Output of `recsys-spark size`: the capacity estimate as a table and a few lines; no warehouse, no Spark.

Owns: that view.
"""

from typing import NamedTuple

from rich import box
from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.config.schema import Config
from recsys_spark.operations.size.deployment import choices_of, in_bytes, in_flop, sizes_of, warnings_of
from recsys_spark.operations.size.fits import REFERENCE_GFLOPS, Load, StepSize
from recsys_spark.two_tower.dimensions import uses_towers

_GIB = 1 << 30
_UNCOUNTED = ", without what only passes over the log: ingest, catalog, index, interactions, features, audit"


class Cores(NamedTuple):
    """The cores of the cluster: n of them, the speed of each, and the memory of its Python worker."""

    n: int
    gflops: float
    memory_gib: float


def show_size(load: Load, cores: Cores, config: Config, console: Console) -> None:
    """Prints what each step takes on these cores, what will be chosen, and what refused."""
    sizes, faster = sizes_of(load, cores.n, config), cores.gflops / REFERENCE_GFLOPS
    console.rich.print(_steps(sizes, faster))
    hours = {one.step: one.core_s / faster / 3600 for one in sizes}
    alone = hours.pop("two_tower", None)
    console.say(f"{sum(hours.values()) / cores.n:,.3g} hours if all {cores.n:,} cores are busy{_UNCOUNTED}")
    if alone is not None:
        n_threads = config.two_tower.processes * config.two_tower.threads
        console.say(f"two_tower: {alone / n_threads:,.3g} hours before that, processes x threads = {n_threads}")
    for line in choices_of(load, cores.n, config):
        console.say(line)
    for line in warnings_of(load, cores.n, int(cores.memory_gib * _GIB), config):
        console.warn(line)


def with_towers(config: Config) -> Config:
    """`config` with the source `two_tower` enabled beside those that are."""
    if uses_towers(config):
        return config
    enabled = [*config.sources.enabled, "two_tower"]
    return config.model_copy(update={"sources": config.sources.model_copy(update={"enabled": enabled})})


def _steps(sizes: list[StepSize], faster: float) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("step", no_wrap=True)
    for name in ("stored", "shuffled", "scratch", "a worker", "driver", "FLOP", "core-h"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in sizes:
        cells = [one.stored, one.shuffled, one.scratch, one.worker, one.driver]
        hours = f"{one.core_s / faster / 3600:,.3g}" if one.core_s else ""
        table.add_row(one.step, *(in_bytes(cell) if cell else "" for cell in cells), in_flop(one.flop), hours)
    return table
