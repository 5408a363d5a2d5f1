"""What a machine lacks is one clear line: Java, the Delta jar, a warehouse that can be written."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from py4j.protocol import REFLECTION_COMMAND_NAME
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_spark.cli import main
from recsys_spark.errors import EnvironmentFault
from recsys_spark.spark import session
from recsys_spark.spark.session import (
    check_java,
    check_store_client,
    is_fetched,
    local_settings,
    packages_of,
    settings_for,
)
from recsys_spark.warehouse.location import locate


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a `java` that is first on PATH; JAVA_HOME is not set."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin" / "java"


def answer(java: Path, line: str) -> None:
    """Makes `java` a program that prints `line` where Java prints its version."""
    java.parent.mkdir(parents=True, exist_ok=True)
    java.write_text(f"#!/bin/sh\necho '{line}' >&2\n")
    java.chmod(0o755)


def refusal() -> str:
    with pytest.raises(EnvironmentFault) as caught:
        check_java()
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ('java version "1.8.0_292"', "8"),
        ('openjdk version "11.0.2" 2019-01-15', "11"),
        ('openjdk version "16" 2021-03-16', "16"),
    ],
)
def test_check_java_names_the_version_that_is_too_old(fake_java: Path, line: str, version: str) -> None:
    answer(fake_java, line)
    assert refusal().startswith(f"Java: expected version 17 or newer, got {version} at {fake_java}; install it with ")


@pytest.mark.parametrize(
    "line",
    [
        'openjdk version "17" 2021-09-14',
        'openjdk version "17.0.12" 2024-07-16',
        'openjdk version "21-ea" 2023-09-19',
        'Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21.0.1"',
    ],
)
def test_check_java_accepts_17_and_newer(fake_java: Path, line: str) -> None:
    answer(fake_java, line)
    check_java()


def test_check_java_says_when_java_does_not_answer(fake_java: Path) -> None:
    answer(fake_java, "what?")
    assert f"got no answer at {fake_java}" in refusal()


def test_check_java_says_when_java_cannot_be_started(fake_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java.write_text("no program")
    fake_java.chmod(0o755)
    assert f"got no answer at {fake_java}" in refusal()


def test_check_java_says_when_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    text = refusal()
    assert text.startswith("Java: expected version 17 or newer, got none on PATH; install it with ")
    assert all(place in text for place in ("Debian", "macOS", "SDKMAN", "JAVA_HOME"))


def test_check_java_looks_at_java_home_before_path(
    fake_java: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(fake_java, 'openjdk version "17.0.1"')
    answer(tmp_path / "home" / "bin" / "java", 'openjdk version "11.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert f"got 11 at {tmp_path}/home/bin/java" in refusal()


def test_check_java_names_a_java_home_without_java(
    fake_java: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(fake_java, 'openjdk version "17.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    assert f"got none at {tmp_path}/nowhere/bin/java (JAVA_HOME)" in refusal()


def test_local_settings_are_the_lines_of_the_profile() -> None:
    settings = local_settings()
    assert settings["spark.sql.session.timeZone"] == "UTC"
    assert settings["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
    assert not any(key.startswith("#") for key in settings)


def test_settings_for_a_warehouse_in_s3_have_its_jars_besides(tmp_path: Path) -> None:
    local, of_s3 = settings_for(tmp_path), settings_for(locate("s3://shop/warehouse"))
    assert local == local_settings() == settings_for(locate("hdfs://name/warehouse"))
    differing = {key for key in of_s3 if of_s3[key] != local.get(key)}
    assert differing == {"spark.jars.packages", "spark.jars.excludes"}
    assert of_s3["spark.jars.packages"].startswith(f"{local['spark.jars.packages']},org.apache.hadoop:hadoop-aws:")


PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Ivy would keep the jar of PACKAGE."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("recsys_spark.warehouse.whole_file.gettempdir", lambda: str(tmp_path))
    (tmp_path / ".ivy2.5.2" / "jars").mkdir(parents=True)
    return tmp_path / ".ivy2.5.2" / "jars" / "io.delta_delta-spark_4.2_2.13-4.4.0.jar"


def test_a_session_without_the_client_of_the_store_is_refused(tmp_path: Path) -> None:
    hadoop = SimpleNamespace(getClassByNameOrNull=lambda name: None)
    context = SimpleNamespace(_jsc=SimpleNamespace(hadoopConfiguration=lambda: hadoop))
    spark = cast("SparkSession", SimpleNamespace(sparkContext=context))
    check_store_client(spark, tmp_path)
    with pytest.raises(EnvironmentFault, match=r"expected Hadoop's client for s3://shop/w.*conf/spark/s3\.conf"):
        check_store_client(spark, locate("s3://shop/w"))


def test_is_fetched_asks_for_a_jar_that_is_whole(kept: Path) -> None:
    assert not is_fetched(PACKAGE)
    kept.touch()
    assert not is_fetched(PACKAGE)
    kept.write_bytes(b"jar")
    assert is_fetched(PACKAGE)
    assert packages_of({}) == packages_of({"spark.jars.packages": ""}) == []


def test_a_session_is_told_of_the_server_that_has_the_warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under spark-submit, whose settings are those of its properties."""
    told: dict[str, str] = {}
    asked: list[tuple[Any, ...]] = []

    class Builder:
        def appName(self, _name: str) -> "Builder":  # noqa: N802 - Spark's name
            return self

        def config(self, key: str, value: str) -> "Builder":
            told[key] = value
            return self

        def getOrCreate(self) -> str:  # noqa: N802 - Spark's name
            return "session"

    monkeypatch.setattr(session, "_keep_lookups", lambda _: None)  # there is no JVM
    monkeypatch.setattr(session, "check_store_client", lambda *given: asked.append(given))
    monkeypatch.setattr(session, "SparkSession", SimpleNamespace(builder=Builder()))
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    root = locate("s3://shop/w", "http://minio:9000", "eu-west-1")
    assert session.open_session("a day", root) == "session"
    assert asked == [("session", root)]
    assert told == {
        "spark.hadoop.fs.s3a.endpoint": "http://minio:9000",
        "spark.hadoop.fs.s3a.endpoint.region": "eu-west-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
    }


@pytest.mark.parametrize("is_kept", [True, False])
def test_sessions_that_have_to_fetch_jars_start_one_after_the_other(kept: Path, is_kept: bool) -> None:
    if is_kept:
        kept.write_bytes(b"jar")
    started = threading.Event()

    def start() -> None:
        with session._fetching_alone({"spark.jars.packages": f" {PACKAGE}, "}):
            started.set()

    second = threading.Thread(target=start)
    with session._fetching_alone({"spark.jars.packages": f" {PACKAGE}, "}):
        second.start()
        assert started.wait(0.5) == is_kept
    assert started.wait(10)
    second.join()


def test_a_session_keeps_what_python_would_ask_the_jvm_for_at_every_expression(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[str] = []
    client = cast(Any, spark.sparkContext)._jvm._gateway_client
    sent = client.send_command
    monkeypatch.setattr(
        client,
        "send_command",
        lambda command, *rest, **named: commands.append(command) or sent(command, *rest, **named),
    )
    frame = spark.range(3).where(~(F.col("id") == 1)).agg(F.sum(F.when(F.col("id") > 0, F.lit(2))), F.expr("max(id)"))
    assert frame.first() == (2, 2)
    of_columns = [one for one in commands if one.startswith(REFLECTION_COMMAND_NAME) and "unctions" in one]
    assert commands
    assert of_columns == []


def run_ingest(folder: Path, root: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: this one may have a JVM."""
    command = [sys.executable, "-c", "import sys; from recsys_spark.cli.main import main; sys.exit(main())", "ingest"]
    return subprocess.run(
        [*command, "--set", f"storage.root={root}"],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def one_line(ended: subprocess.CompletedProcess[str]) -> str:
    """The only line that a command wrote before it ended with 2."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def test_ingest_says_in_one_line_that_java_is_too_old(tmp_path: Path, fake_java: Path) -> None:
    answer(fake_java, 'openjdk version "11.0.2"')
    assert one_line(run_ingest(tmp_path, str(tmp_path / "warehouse"))).startswith("Java: expected version 17 or newer")


def test_ingest_says_in_one_line_that_there_is_no_java(tmp_path: Path) -> None:
    text = one_line(run_ingest(tmp_path, str(tmp_path / "warehouse"), JAVA_HOME=str(tmp_path)))
    assert text.startswith(f"Java: expected version 17 or newer, got none at {tmp_path}/bin/java (JAVA_HOME)")


def test_ingest_says_in_one_line_that_the_delta_jar_cannot_be_had(tmp_path: Path) -> None:
    # A home without any cached jar, and a network where nothing answers.
    nowhere = " ".join(f"-D{scheme}.proxyHost=127.0.0.1 -D{scheme}.proxyPort=9" for scheme in ("http", "https"))
    ended = run_ingest(tmp_path, str(tmp_path / "w"), JAVA_TOOL_OPTIONS=f"-Duser.home={tmp_path} {nowhere}")
    text = one_line(ended)
    assert text.startswith("session: expected Spark to start with io.delta:delta-spark_")
    assert "not found" in text
    assert "Maven Central" in text
    assert (tmp_path / "w" / "_logs" / "spark.log").stat().st_size > 0


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Ingests into a warehouse, in this process; the only line that it wrote before it ended with 2."""
    monkeypatch.chdir(tmp_path)

    def run(root: str) -> str:
        code = main.main(["ingest", "--set", f"storage.root={root}"])
        said = capfd.readouterr()
        assert (code, said.out, said.err.count("\n")) == (2, "", 1), said.err
        return said.err

    return run


@pytest.mark.parametrize("root", ["/proc/warehouse", "/dev/null/warehouse", "file"])
def test_ingest_says_in_one_line_that_the_warehouse_cannot_be_written(
    tmp_path: Path, refused: Callable[[str], str], root: str
) -> None:
    (tmp_path / "file").touch()
    text = refused(root)
    assert text.startswith(f"[storage] root: expected a folder that can be written, got {root} (")
    assert "--set storage.root=" in text


def test_ingest_says_in_one_line_that_a_folder_of_the_warehouse_is_a_file(
    tmp_path: Path, refused: Callable[[str], str]
) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "tables").touch()
    assert "[storage] root: expected a folder that can be written" in refused("w")
