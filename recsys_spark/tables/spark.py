"""A declared table as Spark sees it.

Owns: the rendering from `contract` to pyspark types.  Called by `delta`, `check` and the adapters.
"""

from pyspark.sql import types as T

from recsys_spark.tables.contract import Column, ListOf, MapOf, StructOf, Table, Type

_SCALARS: dict[str, T.DataType] = {
    "string": T.StringType(),
    "int": T.IntegerType(),
    "long": T.LongType(),
    "float": T.FloatType(),
    "double": T.DoubleType(),
    "boolean": T.BooleanType(),
    "timestamp": T.TimestampType(),
    "date": T.DateType(),
}


def spark_type(declared: Type) -> T.DataType:
    """The Spark type of a declared type; list elements and map values are not nullable."""
    match declared:
        case ListOf(element):
            return T.ArrayType(spark_type(element), containsNull=False)
        case MapOf(value):
            return T.MapType(T.StringType(), spark_type(value), valueContainsNull=False)
        case StructOf(fields):
            return T.StructType([_field(column) for column in fields])
        case _:
            return _SCALARS[declared]


def spark_schema(table: Table, without: tuple[str, ...] = ()) -> T.StructType:
    """The Spark schema of `table` in contract order, less the columns named in `without`."""
    return T.StructType([_field(column) for column in table.columns if column.name not in without])


def _field(column: Column) -> T.StructField:
    return T.StructField(column.name, spark_type(column.type), nullable=column.nullable)
