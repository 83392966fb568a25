"""What starts jobs by itself names what is there: jobs, flags, images, and fields that their readers know."""

import configparser
import re
import runpy
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from processes import ROOT

from pneumospark.config import ScoreConfig
from pneumospark.io.preflight import PINS, WORKER, memory_bytes
from pneumospark.settings import parse

yaml = pytest.importorskip("yaml")
HOME = "/opt/pneumospark/"
"""Where images and units have the checkout."""

APPLICATION = {
    "type", "mode", "image", "sparkVersion", "mainApplicationFile", "arguments", "sparkConf", "restartPolicy",
    "volumes", "driver", "executor", "pythonVersion",
}  # fmt: skip
"""Of a v1beta2 SparkApplicationSpec, those that are used: api/v1beta2/sparkapplication_types.go of the operator."""

POD = {
    "cores", "memory", "memoryOverhead", "serviceAccount", "envFrom", "volumeMounts", "securityContext", "instances",
}  # fmt: skip


def unit(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(ROOT / "conf" / name)
    return found


def assert_starts_score(words: list[str]) -> None:
    """The words name jobs/score.py of this checkout, and flags that it knows."""
    script, *args = words
    assert (ROOT / script.removeprefix("local://").removeprefix(HOME)).is_file(), script
    flags = [word.partition("=")[0] for word in args if word.startswith("--")]
    assert flags == ["--config"]


def test_systemd() -> None:
    service, timer = unit("pneumospark-score.service"), unit("pneumospark-score.timer")
    command, *words = service["Service"]["ExecStart"].split()
    assert command == f"{HOME}.venv/bin/spark-submit"
    assert words[:2] == ["--driver-java-options", "-XX:TieredStopAtLevel=1"]
    assert_starts_score(words[2:])
    assert service["Service"]["Type"] == "oneshot" and "Restart" not in service["Service"]
    assert timer["Timer"]["Persistent"] == "true"


def test_kubernetes() -> None:
    found: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "kubernetes-score.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("sparkoperator.k8s.io/v1beta2", "ScheduledSparkApplication")
    assert found["spec"]["concurrencyPolicy"] == "Forbid"
    template = found["spec"]["template"]
    assert set(template) <= APPLICATION and set(template["driver"]) <= POD and set(template["executor"]) <= POD
    assert template["sparkVersion"] == PINS["pyspark"]
    assert_starts_score([template["mainApplicationFile"], *template["arguments"]])
    executor = template["executor"]
    assert memory_bytes(executor["memoryOverhead"]) >= executor["cores"] * WORKER


def test_airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts this checkout's Spark, whichever the one that runs Airflow has.

    Airflow's own packages do not go with TensorFlow's, so what the DAG gives it is caught, and started here.
    """
    task: dict[str, Any] = {}
    dag: dict[str, Any] = {}
    path = "airflow.providers.apache.spark.operators.spark_submit"
    for name in (path.rsplit(".", count)[0] for count in range(1, 5)):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, path, SimpleNamespace(SparkSubmitOperator=task.update))
    sdk = SimpleNamespace(DAG=lambda **given: nullcontext(dag.update(given)))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    monkeypatch.setenv("PNEUMOSPARK_HOME", str(tmp_path))
    runpy.run_path(str(ROOT / "conf" / "airflow_score.py"))
    assert_starts_score([task["application"].replace(f"{tmp_path}/", HOME), *task["application_args"]])
    assert task["spark_binary"] == f"{tmp_path}/.venv/bin/spark-submit"
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)
    env = {"PATH": "/usr/bin:/bin", "SPARK_HOME": "/opt/another-spark", **task["env_vars"]}
    done = subprocess.run([task["spark_binary"], "--version"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"version {PINS['pyspark']}" in done.stderr, done.stderr


def test_compose_and_images_are_of_one_version() -> None:
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    images = {service["image"] for service in compose["services"].values()}
    assert all(re.search(r":\d+\.\d+", image) for image in images), images
    assert {"namenode", "datanode", "s3", "master", "worker-1", "worker-2", "history"} <= set(compose["services"])
    base = re.findall(r"^FROM (\S+)", (ROOT / "docker" / "Dockerfile.gpu").read_text(), re.M)
    assert base == [compose["services"]["master"]["image"]]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_what_images_copy_is_sent_to_docker(name: str) -> None:
    ignored, *kept = (line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] not in "#")
    sent = {line[1:] for line in kept if line.startswith("!")}
    lines = re.findall(r"^COPY (?!--from)(.+)", (ROOT / "docker" / name).read_text(), re.M)
    copied = {source for line in lines for source in line.split()[:-1]}
    assert ignored == "*" and copied <= sent and all((ROOT / source).exists() for source in copied)


def test_the_image_finds_its_java_as_a_driver_on_kubernetes(tmp_path: Path) -> None:
    """Spark's client sets SPARK_CONF_DIR there; the image has no other Java, and this machine's is taken away here."""
    tools = {tool.name: tool for folder in ("/bin", "/usr/bin") for tool in Path(folder).iterdir()}
    (tmp_path / "bin").mkdir()
    for tool in tools.values():
        if "java" not in tool.name:
            (tmp_path / "bin" / tool.name).symlink_to(tool)
    variables = re.findall(r"^ENV (\w+)=(\S+)$", (ROOT / "docker" / "Dockerfile").read_text(), re.M)
    env = {name: value.replace("/opt/pneumospark/.venv", sys.prefix) for name, value in variables}
    env["PATH"] = env["PATH"].replace("$PATH", str(tmp_path / "bin"))
    env |= {"SPARK_CONF_DIR": str(tmp_path), "SPARK_DRIVER_BIND_ADDRESS": "127.0.0.1"}
    command = ["bash", str(ROOT / "docker" / "entrypoint.sh"), "driver", "--version"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"version {PINS['pyspark']}" in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_images_run_as_nobody_special(name: str) -> None:
    text = (ROOT / "docker" / name).read_text()
    assert re.findall(r"^USER (\S+)", text, re.M)[-1] == "185"
    assert PINS["tensorflow"] in text or "requirements.txt" in text


def test_the_settings_that_schedules_name_are_enough(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text((ROOT / "conf" / "pipeline.toml").read_text())
    config, _ = parse(ScoreConfig, ["--config", str(tmp_path / "my.toml")])
    assert config.bundle and config.predictions and config.quarantine
