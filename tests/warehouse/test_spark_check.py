"""What is declared is what Spark gets."""

from pyspark.sql import types as T

from recsys_spark.warehouse.contract import Column, ListOf, MapOf, StructOf
from recsys_spark.warehouse.spark_check import spark_schema, spark_type
from recsys_spark.warehouse.tables import USER_INDEX


def test_spark_type_renders_nested_types() -> None:
    fields = (Column("a", "float", "a"), Column("b", MapOf("string"), "b", nullable=True))
    rendered = spark_type(ListOf(StructOf(fields)))
    assert rendered == T.ArrayType(
        T.StructType(
            [
                T.StructField("a", T.FloatType(), nullable=False),
                T.StructField("b", T.MapType(T.StringType(), T.StringType(), valueContainsNull=False), nullable=True),
            ]
        ),
        containsNull=False,
    )


def test_spark_schema_leaves_columns_out() -> None:
    assert spark_schema(USER_INDEX, without=("run_id",)).names == ["user_idx", "user_id"]
