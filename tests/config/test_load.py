"""Layers of settings, and the one line that names each fault."""

from pathlib import Path

import pytest

from recsys_spark.config.load import conf_folder, config_hash, load_config
from recsys_spark.config.schema import Config
from recsys_spark.errors import ConfigError
from recsys_spark.warehouse.location import ObjectPath


def write(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text, encoding="utf-8")
    return path


def fault(*sets: str, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file=file, sets=sets)
    return str(caught.value)


def test_load_config_lays_the_file_over_the_defaults_and_set_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "[candidates]\nk = 50\nrrf_k = 10\n[ann]\ntrain_threads = 7\n")
    assert load_config().ann.train_threads == 2, "the profile's own"
    config = load_config(file=file, sets=("candidates.k=7",))
    assert config.ann.train_threads == 7
    assert (config.candidates.k, config.candidates.rrf_k, config.candidates.seen) == (7, 10, "exclude")


def test_load_config_takes_a_list_of_the_file_whole(tmp_path: Path) -> None:
    config = load_config(file=write(tmp_path, '[items]\nvectors = ["e1"]\n'))
    assert config.items.vectors == ["e1"]


def test_load_config_replaces_all_event_types_when_the_file_names_any(tmp_path: Path) -> None:
    config = load_config(file=write(tmp_path, "[events.types.view]\nweight = 2.0\n"))
    assert set(config.events.types) == {"view"}
    assert config.events.types["view"].role == "engage"


def test_load_config_adds_an_event_type_by_set() -> None:
    config = load_config(sets=("events.types.view.weight=2.0",))
    assert set(config.events.types) == {"purchase", "view"}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("storage.root=/data/x y", "/data/x y"),
        ('storage.root="quoted"', "quoted"),
        ("storage.root='it=is'", "it=is"),
        ("storage.root=a=b", "a=b"),
    ],
)
def test_load_config_reads_a_bare_word_of_set_as_text(text: str, read: str) -> None:
    assert load_config(sets=(text,)).storage.root == read


def test_endpoint_of_a_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set \[storage\]: expected endpoint and region only where root or"):
        load_config(sets=("storage.endpoint=http://minio:9000",))


def test_landing_place_has_the_endpoint_of_the_storage_section() -> None:
    config = load_config(sets=("storage.endpoint=http://minio:9000", "landing.events=s3://logs/day", "landing.items="))
    assert config.landing_place("events") == ObjectPath("s3://logs/day", "http://minio:9000")
    assert config.landing_place("items") is None
    assert config.landing_place("users") == Path("landing/users").absolute()


@pytest.mark.parametrize("text", ["candidates", "k=5", "candidates.=5", ".k=5", "=5", "", "candidates..k=5"])
def test_load_config_refuses_a_set_without_section_and_key(text: str) -> None:
    assert fault(text).startswith(f"--set: expected section.key=value, got {text!r};")


def test_load_config_names_every_fault_of_every_layer_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, '[candidates]\nk = 0\nsen = "keep"\n[run]\nseed = "x"\n')
    lines = fault("publish.grace_hours=47", file=file).splitlines()
    assert len(lines) == 4
    assert all("; " in line and ": expected " in line and ", got " in line for line in lines)
    assert sum(line.startswith(f"{file} [") for line in lines) == 3
    assert sum(line.startswith("--set [publish] grace_hours: ") for line in lines) == 1


def test_load_config_names_the_place_of_the_layer_that_was_wrong(tmp_path: Path) -> None:
    file = write(tmp_path, "[candidates]\nk = 5\n")
    assert fault("candidates.k=0", file=file).startswith("--set [candidates] k: ")


def test_load_config_proposes_the_nearest_name(tmp_path: Path) -> None:
    text = fault(file=write(tmp_path, '[candidates]\nsen = "keep"\n'))
    assert "[candidates] sen: expected a known setting, got 'sen'; did you mean 'seen'?" in text


def test_load_config_lists_the_known_names_when_none_is_near(tmp_path: Path) -> None:
    assert "known here: root" in fault(file=write(tmp_path, "[storage]\nzzzzzz = 1\n"))


def test_load_config_names_a_key_inside_an_event_type(tmp_path: Path) -> None:
    text = fault(file=write(tmp_path, '[events.types.view]\nroles = "engage"\n'))
    assert "[events.types.view] roles: " in text
    assert "did you mean 'role'?" in text


@pytest.mark.parametrize("name", ["View", "2view", "add to cart", "", "a" * 65, "..", "view;drop"])
def test_load_config_refuses_a_type_that_is_no_name(tmp_path: Path, name: str) -> None:
    text = fault(file=write(tmp_path, f'[events.types."{name}"]\nweight = 1.0\n'))
    assert "[events.types]" in text
    assert "lower-case" in text


def test_load_config_names_the_file_and_line_when_it_is_not_toml(tmp_path: Path) -> None:
    file = write(tmp_path, "[candidates\nk = 5\n")
    text = fault(file=file)
    assert text.startswith(f"{file}: expected TOML, got ")
    assert "line 1" in text


def test_load_config_names_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_bytes(b"[storage]\nroot = '\xff'\n")
    assert fault(file=file).startswith(f"{file}: expected TOML, got ")


def test_load_config_names_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    assert "No such file" in fault(file=tmp_path / "none.toml")
    assert "Is a directory" in fault(file=tmp_path)


def test_load_config_lists_the_profiles_when_there_is_none_of_that_name() -> None:
    with pytest.raises(ConfigError, match=r"--profile: expected one of .*local.*, got 'moon'"):
        load_config("moon")


@pytest.mark.parametrize(
    "text",
    [
        "candidates.k=1.5",
        "candidates.k=true",
        'candidates.k="5"',
        "interactions.half_life_days=nan",
        "interactions.half_life_days=inf",
        "ingest.max_bad_row_ratio=1.01",
        "publish.grace_hours=47",
        "storage.root=''",
        "events.timezone=Mars/Phobos",
        "events.timezone=../../etc/localtime",
        "events.time_format=%Q",
        "events.time_format=epoch",
        "events.time_format=%H:%M",
        "events.value_max=-1.0",
    ],
)
def test_load_config_refuses_what_a_run_could_not_use(text: str) -> None:
    section, key = text.partition("=")[0].split(".")
    assert f"[{section}] {key}: expected " in fault(text)


def test_load_config_refuses_a_default_type_that_is_no_type() -> None:
    text = fault("events.default_type=view")
    assert "[events] types: expected a section [events.types.view], which default_type names" in text


def test_load_config_refuses_a_name_of_the_log_that_two_types_claim(tmp_path: Path) -> None:
    text = fault(file=write(tmp_path, '[events.types.view]\nraw = ["v"]\n[events.types.click]\nraw = ["c", "v"]\n'))
    assert "[events] types: expected " in text
    assert "'v'" in text


def test_base_toml_says_everything_that_config_knows() -> None:
    # Config has no defaults of its own: what base.toml leaves out would be missing here.
    assert isinstance(load_config(), Config)
    assert (conf_folder() / "local.toml").is_file()


def test_config_hash_changes_with_what_decides_an_output() -> None:
    assert config_hash(load_config(sets=("candidates.k=5",))) != config_hash(load_config())
    assert config_hash(load_config(sets=("sources.popular.window_days=3",))) != config_hash(load_config())
    assert config_hash(load_config(sets=("events.types.purchase.weight=2.0",))) != config_hash(load_config())


def test_config_hash_is_the_same_wherever_the_warehouse_is() -> None:
    moved = load_config(sets=("storage.root=elsewhere", "landing.events=in", "publish.grace_hours=72"))
    assert config_hash(moved) == config_hash(load_config())


def test_auto_is_the_fallback_until_a_run_has_chosen_and_what_a_person_wrote_is_not_for_the_run_to_choose(
    tmp_path: Path,
) -> None:
    file = tmp_path / "shop.toml"
    file.write_text("[als]\nalpha = 7.0\n[validation.fallback.als]\nregularization = 0.5\n", encoding="utf-8")
    config = load_config(file=file, sets=("als.factors=auto",))
    assert (config.als.alpha, config.als.regularization, config.als.factors) == (7.0, 0.5, 128)
    assert "als.alpha" not in config.validation.auto
    assert {"als.regularization", "als.factors", "sources.enabled"} <= set(config.validation.auto)
    assert config.als.exchange == "auto"  # a word of its own
    with pytest.raises(ConfigError, match=r"\[als\] iterations: expected integer, got \"auto\""):
        load_config(sets=("als.iterations=auto",))


@pytest.mark.parametrize("written", ["candidates.score_weights.als=2.0", "candidates.score_scaling=capped"])
def test_who_writes_how_scores_are_weighed_means_scores(written: str) -> None:
    config = load_config(sets=(written,))
    assert config.candidates.method == "scores"
    assert "candidates.method" not in config.validation.auto
    assert load_config(sets=(written, "candidates.method=rrf")).candidates.method == "rrf"
    assert "candidates.method" in load_config(sets=("candidates.k=7",)).validation.auto
