"""What steps made, as plain rows: worked out once, however often a test reads them."""

from collections.abc import Mapping

from pyspark.sql import DataFrame


def plain_rows(tables: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """The same rows in frames that have no plan of their own."""
    return {name: frame.sparkSession.createDataFrame(frame.toArrow(), frame.schema) for name, frame in tables.items()}
