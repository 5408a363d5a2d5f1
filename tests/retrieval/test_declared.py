"""Faults in the settings of sources are found before Spark starts, and named with file, section and key."""

import subprocess
import sys
from pathlib import Path

import pytest

from recsys_spark.config.load import load_config
from recsys_spark.errors import ConfigError
from recsys_spark.retrieval.declared import check_params, discover


def faults(*sets: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_params(load_config(sets=sets))
    return str(caught.value).splitlines()


def test_discover_finds_every_file() -> None:
    assert "popular" in discover()
    assert list(discover()) == sorted(discover())


def test_check_params_accepts_the_defaults() -> None:
    checked = check_params(load_config())
    assert list(checked) == ["popular", "item_cf", "als", "low_pass", "successors", "content"]
    assert checked["popular"].window_days == 14


def test_check_params_names_the_place_of_an_unknown_setting(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text("[sources.popular]\nwindow_dayz = 7\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check_params(load_config(file=file))
    assert str(caught.value) == (
        f"{file} [sources.popular] window_dayz: expected a known setting, got 'window_dayz'; "
        "did you mean 'window_days'?"
    )


def test_check_params_names_a_value_out_of_range() -> None:
    assert faults("sources.popular.window_days=0") == [
        "--set [sources.popular] window_days: expected greater than or equal to 1, got 0; give 1 or more"
    ]


def test_check_params_refuses_text_for_a_number() -> None:
    (fault,) = faults('sources.popular.max_items="many"')
    assert fault.startswith('--set [sources.popular] max_items: expected integer, got "many"; ')


def test_check_params_names_an_unknown_source() -> None:
    hint = "expected the name of a file in recsys_spark/retrieval/sources, got"
    assert faults('sources.enabled=["populr"]') == [
        f"--set [sources] enabled: {hint} 'populr'; did you mean 'popular'?"
    ]
    assert faults("sources.xyzzy.factors=3") == [
        f"--set [sources] xyzzy: {hint} 'xyzzy'; known here: {', '.join(discover())}"
    ]
    assert faults('candidates.source_weights={"populr/global"=2.0}') == [
        f"--set [candidates.source_weights] populr/global: {hint} 'populr/global'; did you mean 'popular'?"
    ]


def test_check_params_refuses_a_value_in_place_of_a_section() -> None:
    (fault,) = faults("sources.popular=3")
    assert fault.startswith("--set [sources] popular: expected dictionary")


def test_check_params_tells_every_fault_at_once() -> None:
    assert (
        len(
            faults(
                "sources.popular.window_days=0",
                "sources.popular.max_items=0",
                'sources.enabled=["x"]',
            )
        )
        == 3
    )


def test_check_params_starts_neither_spark_nor_numpy() -> None:
    program = (
        "import sys; from recsys_spark.config.load import load_config;"
        "from recsys_spark.retrieval.declared import check_params;"
        "check_params(load_config()); print([m for m in ('pyspark', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
