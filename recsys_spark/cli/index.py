"""The commands `recsys-spark index ...`: check and print the ANN index of the published bundle, without Spark.

Owns: their options and what they do.
"""

import time

import typer

from recsys_spark.cli.console import Console
from recsys_spark.cli.options import FileOption, ProfileOption, SetOption, published, settings_of

app = typer.Typer(help="The index over the embeddings of items.", no_args_is_help=True)


@app.callback()
def index() -> None:
    """The index over the embeddings of items."""


@app.command()
def verify(profile: ProfileOption = "local", file: FileOption = None, sets: SetOption = None) -> None:
    """Open every shard of the published index as a service does, by hash, size, ids and model, and print them."""
    config = published(settings_of(profile, file, sets))
    from recsys_spark.cli.views.index import show_index
    from recsys_spark.serving.bundle import open_current, open_index

    started = time.perf_counter()
    bundle = open_current(config.root)
    opened = open_index(bundle, mapped=True)
    seconds = time.perf_counter() - started
    console = Console(json_logs=False)
    console.say(
        f"run {bundle.run_id}: {len(opened.shards)} shards with {opened.n_items:,} items are whole, checked in "
        f"{seconds:.1f} s"
    )
    show_index(bundle, config, console)
