"""What a step returned, as the runner stages it and the next step reads it."""

from collections.abc import Mapping

import numpy as np
from pyspark.sql import DataFrame

from recsys_spark.context import Context
from recsys_spark.features.declared import declared_tables
from recsys_spark.two_tower.kernels.batches import NONE
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.spark_tables import TaskRows, read_run, stage_run


def staged(outputs: Mapping[str, DataFrame | TaskRows], context: Context) -> dict[str, DataFrame]:
    """`outputs` with rows that tasks make made: written to the context's warehouse, and read back."""
    root, tables, found = context.config.root, declared_tables(), {}
    for name, rows in outputs.items():
        if isinstance(rows, DataFrame):
            found[name] = rows
            continue
        create_tables(root, [tables[name]])
        stage_run(rows, root, tables[name], context.run_id)
        found[name] = read_run(context.spark, root, tables[name], context.run_id)
    return found


def no_items(n_users: int) -> np.ndarray:
    """`shown` of users of whom the log says nothing, (n_users, 0)."""
    return np.full((n_users, 0), NONE, np.int32)
