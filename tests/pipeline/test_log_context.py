from recsys_spark.pipeline.log_context import at, where


def test_where_is_known_inside_a_step_and_forgotten_after_it() -> None:
    assert where() == {}
    with at("run", "als"):
        with at("run", "blend"):
            assert where() == {"run_id": "run", "step": "blend"}
        assert where() == {"run_id": "run", "step": "als"}
    assert where() == {}
