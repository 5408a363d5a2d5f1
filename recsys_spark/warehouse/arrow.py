"""Arrow schema of a declared table, with comments, and its hash.

Owns: the rendering from `contract` to pyarrow.
"""

from hashlib import sha256

import pyarrow as pa

from recsys_spark.warehouse.contract import Column, ListOf, MapOf, StructOf, Table, Type

_SCALARS: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
}


def arrow_type(declared: Type) -> pa.DataType:
    """The Arrow type of a declared type; list elements and map values are not nullable."""
    match declared:
        case ListOf(element):
            return pa.list_(pa.field("element", arrow_type(element), nullable=False))
        case MapOf(value):
            return pa.map_(pa.string(), pa.field("value", arrow_type(value), nullable=False))
        case StructOf(fields):
            return pa.struct([_field(column) for column in fields])
        case _:
            return _SCALARS[declared]


def arrow_schema(table: Table) -> pa.Schema:
    """The Arrow schema of `table`, columns in contract order, documentation as field metadata `comment`."""
    return pa.schema([_field(column) for column in table.columns])


def form_of(declared: pa.DataType) -> str:
    """A type as text, without what writers differ in: nullability, names of list elements, the unit of UTC times."""
    if pa.types.is_list(declared):
        return f"list<{form_of(declared.value_type)}>"
    if pa.types.is_map(declared):
        return f"map<{form_of(declared.key_type)}, {form_of(declared.item_type)}>"
    if pa.types.is_struct(declared):
        return f"struct<{', '.join(f'{field.name}: {form_of(field.type)}' for field in declared)}>"
    in_utc = pa.types.is_timestamp(declared) and declared.tz in (None, "UTC")
    return "timestamp" if in_utc else str(declared)


def schema_hash(table: Table) -> str:
    """Hash of the declared names and types, in order."""
    text = ",".join(f"{field.name}:{field.type}" for field in arrow_schema(table))
    return sha256(text.encode()).hexdigest()


def _field(column: Column) -> pa.Field:
    comment = f"{column.doc} [{column.unit}]" if column.unit else column.doc
    return pa.field(column.name, arrow_type(column.type), nullable=column.nullable, metadata={"comment": comment})
