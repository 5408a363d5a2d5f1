"""Reference of tables: the text of `recsys_spark/warehouse/TABLES.md`, generated from the declarations of the tables.

Owns: that text.
"""

from recsys_spark.features.declared import declared_tables
from recsys_spark.warehouse.contract import Column, ListOf, MapOf, StructOf, Table, Type

_HEAD = """# Tables

<!-- generated: `uv run recsys-spark reference > recsys_spark/warehouse/TABLES.md` -->

Every table with its columns, features included. All are Delta tables in `<warehouse>/tables/<name>`. Settings stand in
[conf/base.toml](../../conf/base.toml).
"""

_FAMILIES = {
    "bundle": "Published tables (one bundle, partitioned by `run_id`)",
    "events": "Events and quarantine",
    "catalogue": "Catalogue",
    "work": "Tables inside a run (partitioned by `run_id`)",
    "ledger": "Ledgers (append-only, written without Spark)",
}


def reference_text() -> str:
    """The whole file, as Markdown."""
    parts = [_HEAD]
    tables = declared_tables().values()
    for family, title in _FAMILIES.items():
        parts += [f"## {title}", ""]
        for table in tables:
            if table.family == family:
                parts += _table(table)
    return "\n".join(parts).rstrip() + "\n"


def _table(table: Table) -> list[str]:
    key = f" Key: {', '.join(f'`{name}`' for name in table.key)}." if table.key else ""
    lines = [
        f"**`{table.name}`**: {table.doc}.{key}",
        "",
        "| column | type | null | unit | meaning |",
        "|---|---|---|---|---|",
    ]
    for column in table.columns:
        null = "yes" if column.nullable else ""
        lines.append(f"| `{column.name}` | {_shown(column.type)} | {null} | {column.unit} | {_meaning(column)} |")
    return [*lines, ""]


def _meaning(column: Column) -> str:
    return column.doc.replace("|", "\\|")


def _shown(declared: Type) -> str:
    match declared:
        case ListOf(element):
            return f"array&lt;{_shown(element)}&gt;"
        case MapOf(value):
            return f"map&lt;string, {_shown(value)}&gt;"
        case StructOf(fields):
            return f"struct&lt;{', '.join(f'{field.name}: {_shown(field.type)}' for field in fields)}&gt;"
        case _:
            return declared
