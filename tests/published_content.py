"""Content hashes of what a warehouse published: runs with equal results have equal hashes."""

from recsys_spark.pipeline.publish import history
from recsys_spark.warehouse.location import Location


def published_content(root: Location) -> dict[str, str]:
    """Content hash of every table of the only bundle that was ever published below `root`."""
    (row,) = history(root)
    return {table.name: table.content_hash for table in row.tables}
