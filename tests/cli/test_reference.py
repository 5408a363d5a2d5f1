"""The reference tells every table and column."""

from recsys_spark.cli.reference import reference_text
from recsys_spark.features.declared import declared_tables


def test_reference_names_every_column() -> None:
    text = reference_text()
    for table in declared_tables().values():
        assert f"**`{table.name}`**" in text
        for column in table.columns:
            assert f"| `{column.name}` |" in text
