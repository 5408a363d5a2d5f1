"""The reference tells every table, column and setting."""

from recsys_spark.cli.reference import reference_text
from recsys_spark.config.load import load_config
from recsys_spark.features.declared import declared_tables


def test_reference_names_every_column_and_section() -> None:
    text = reference_text()
    for table in declared_tables().values():
        assert f"**`{table.name}`**" in text
        for column in table.columns:
            assert f"| `{column.name}` |" in text
    for section in load_config().model_dump():
        assert f"[{section}" in text
