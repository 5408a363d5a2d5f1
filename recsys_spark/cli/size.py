"""The command `recsys-spark size`: its options.

Owns: those alone; the arithmetic is in `operations.size`, the output in `cli.views.size`.
"""

from typing import Annotated

import typer

from recsys_spark.cli.console import Console
from recsys_spark.cli.options import FileOption, ProfileOption, SetOption, settings_of


def size(
    users: Annotated[int, typer.Option(min=1, help="Users in the window of interactions.")],
    items: Annotated[int, typer.Option(min=1, help="Items of the catalogue, all of which may be shown.")],
    interactions: Annotated[int, typer.Option(min=0, help="Pairs of a user and an item; 0: 50 a user.")] = 0,
    dim: Annotated[int, typer.Option(min=0, help="Turns two_tower on, with embeddings so long.")] = 0,
    factors: Annotated[int, typer.Option(min=0, help="als.factors; 0: as it is set.")] = 0,
    k: Annotated[int, typer.Option("--k", min=0, help="candidates.k; 0: as it is set.")] = 0,
    cores: Annotated[int, typer.Option(min=1, help="Cores of all workers together.")] = 64,
    gflops_per_core: Annotated[float, typer.Option(min=0.1, help="Products of matrices, one thread.")] = 65.0,
    memory_gib: Annotated[float, typer.Option(min=0.1, help="Of a core's Python worker; more is warned of.")] = 4.0,
    profile: ProfileOption = "local",
    file: FileOption = None,
    sets: SetOption = None,
) -> None:
    """Reckon what a deployment stores, shuffles, holds and computes, and what it would refuse, before it is bought."""
    asked = {"two_tower.dim": dim, "als.factors": factors, "candidates.k": k}
    config = settings_of(profile, file, [*(sets or []), *(f"{name}={n}" for name, n in asked.items() if n)])
    from recsys_spark.cli.views.size import Cores, show_size, with_towers
    from recsys_spark.operations.size.fits import Load

    load, given = Load(users, items, interactions or 50 * users), Cores(cores, gflops_per_core, memory_gib)
    show_size(load, given, with_towers(config) if dim else config, Console(json_logs=False))
