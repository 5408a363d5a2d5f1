"""Output about the ANN index of a bundle: its shards, why its form was chosen, and its recall by nprobe.

Owns: what is printed of an index.
"""

import re
from typing import Any

from rich.table import Table

from recsys_spark.ann.kernels.index_choice import choose_index
from recsys_spark.cli.console import Console
from recsys_spark.config.schema import Config
from recsys_spark.errors import KernelError
from recsys_spark.serving.bundle import Bundle
from recsys_spark.warehouse.ledger import steps_of


def show_index(bundle: Bundle, config: Config, console: Console) -> None:
    """Prints the manifest, the reasons of the largest part's form, and the recall that the build measured.

    config: the settings; reasons are printed if the form of the index follows from them.
    """
    rows = bundle.read_table("ann_shards").sort_by("shard").to_pylist()
    console.rich.print(shards_table(rows))
    by_part: dict[str | None, int] = {}
    for row in rows:
        by_part[row["part"]] = by_part.get(row["part"], 0) + row["ntotal"]
    if not by_part:
        return
    total, most = sum(by_part.values()), max(by_part.values())
    settings = config.ann
    memory_bytes = settings.memory_bytes * most // total
    for reason in _reasons(most, rows[0], memory_bytes, settings.factory):
        console.say(reason)
    served = rows[0]["nprobe"] if len(by_part) == 1 else None  # parts have one each
    console.rich.print(ladder_table(steps_of(config.root, bundle.run_id)["ann"]["figures"], served))


def _reasons(n: int, row: dict[str, Any], memory_bytes: int, factory: str) -> tuple[str, ...]:
    """Why the index has its form; none if the settings are no longer those of the run."""
    try:
        choice = choose_index(n, row["d"], memory_bytes, factory)
    except KernelError:
        return ()
    return choice.reasons if choice.factory == row["factory"] else ()


def shards_table(rows: list[dict[str, Any]]) -> Table:
    """The manifest, a row per shard; MB: of the index, and of its items' vectors."""
    table = Table("shard", "part", "items", "index", "MB", "nprobe", "sha256")
    for row in rows:
        table.add_row(
            str(row["shard"]),
            row["part"] or "all",
            f"{row['ntotal']:,}",
            row["factory"],
            f"{row['n_bytes'] / 1e6:.2f} + {row['vectors_n_bytes'] / 1e6:.2f}",
            str(row["nprobe"]),
            row["sha256"][:8],
        )
    return table


def ladder_table(figures: dict[str, float], served: int | None) -> Table:
    """Recall by nprobe of the worst part, as the step measured it; the row that is served is marked."""
    found: dict[int, dict[int, float]] = {}
    for name, value in figures.items():
        if match := re.fullmatch(r"recall_at_(\d+)_nprobe_(\d+)", name):
            found.setdefault(int(match[2]), {})[int(match[1])] = value
    ks = sorted({k for by_k in found.values() for k in by_k})
    table = Table("nprobe", *(f"recall@{k}" for k in ks), title="Of users' exact lists, found by the index")
    for nprobe, by_k in sorted(found.items()):
        name = f"{nprobe} (served)" if nprobe == served else str(nprobe)
        table.add_row(name, *(f"{by_k[k]:.4f}" for k in ks))
    return table
