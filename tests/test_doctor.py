"""Preflight: each finding from its facts, and the command on a good and on a bad set of places."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import ROOT, environment

from pneumospark.io import preflight
from pneumospark.io.doctor import groups_of, readable, writable
from pneumospark.io.files import Store

GIGABYTE = 2**30


def conf(**settings: str) -> preflight.Conf:
    named = {f"spark.{name.replace('_', '.')}": value for name, value in settings.items()}
    return named.get


def test_pins_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {f"{name}=={pin}" for name, pin in preflight.PINS.items()} <= set(project)


def test_versions() -> None:
    assert preflight.versions_fit(preflight.PINS, (3, 11)).ok
    found = preflight.versions_fit(preflight.PINS | {"petastorm": "0.13.1"}, (3, 13))
    assert not found.ok and "petastorm 0.13.1, expected 0.12.1" in found.said and "Python 3.13" in found.said
    assert "keras missing" in preflight.versions_fit(dict(preflight.PINS) | {"keras": None}, (3, 11)).said  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        ('openjdk version "17.0.15" 2025-04-15', True),
        ('version "21.0.8"', True),
        ('version "11.0.2"', False),
        (None, False),
    ],
)
def test_java(said: str | None, ok: bool) -> None:
    assert preflight.java_fits(said).ok is ok


@given(st.integers(1, 8), st.integers(0, 64), st.one_of(st.none(), st.integers(1, 64).map(str)))
def test_threads_fit_where_every_core_has_work_and_no_task_takes_anothers(
    cpus: int, cores: int, omp: str | None
) -> None:
    expected = (omp is None or int(omp) <= cpus) and cores % cpus == 0
    assert preflight.threads(omp, cpus, cores).ok is expected


@given(st.sampled_from(["yarn", "k8s://https://host"]), st.integers(1, 16), st.integers(1, 64))
def test_what_memory_asks_for_is_enough(master: str, cores: int, gigabytes: int) -> None:
    given_ = {"master": master, "executor_cores": str(cores), "executor_memory": f"{gigabytes}g"}
    found = preflight.memory(conf(**given_), GIGABYTE, 1)
    if not found.ok:
        wanted = found.said.rpartition("=")[2]
        again = {**given_, "executor_memoryOverhead": wanted}
        assert preflight.memory(conf(**again), GIGABYTE, 1).ok
        less = {**given_, "executor_memoryOverhead": f"{int(wanted[:-1]) - 1}m"}
        assert not preflight.memory(conf(**less), GIGABYTE, 1).ok


def test_memory_of_one_machine() -> None:
    assert preflight.memory(conf(master="local[2]", driver_memory="4g"), 8 * GIGABYTE, 16).ok
    found = preflight.memory(conf(master="local[*]", driver_memory="4g"), 8 * GIGABYTE, 16)
    assert not found.ok and found.said.endswith("--master 'local[3]'")


def test_a_large_arrow_batch_needs_more() -> None:
    settings = {"master": "yarn", "executor_memoryOverhead": "1200m"}
    assert preflight.memory(conf(**settings), GIGABYTE, 1).ok
    large = {**settings, "sql_execution_arrow_maxBytesPerBatch": "256m"}
    assert not preflight.memory(conf(**large), GIGABYTE, 1).ok


def test_sizes_are_read_as_spark_reads_them() -> None:
    assert [preflight.memory_bytes(text) for text in ("512", "512m", "4g", "1024k", "7b")] == [
        512 * 2**20, 512 * 2**20, 4 * 2**30, 2**20, 7,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="expected a size"):
        preflight.memory_bytes("much")


def test_row_groups_and_devices() -> None:
    assert preflight.row_groups({"train": 8, "validation": 4}, 1).ok
    assert not preflight.row_groups({"train": 8, "validation": 1}, 2).ok
    assert preflight.gpu(0, 0).ok and preflight.gpu(1, 1).ok and not preflight.gpu(1, 0).ok


def test_places(tmp_path: Path) -> None:
    store, new = Store(), tmp_path / "new"
    assert writable(f"file://{new}", store).ok
    assert list(tmp_path.iterdir()) == []  # nothing of the probe stays
    (tmp_path / "file").write_text("no folder")
    found = writable(f"file://{tmp_path}/file/below", store)
    assert not found.ok and "cannot be written" in found.said
    assert groups_of(f"file://{tmp_path}/nothing", store, 1).ok and not groups_of(f"file://{tmp_path}", store, 1).ok
    assert readable(f"file://{tmp_path}", store).ok and not readable(f"file://{tmp_path}/nothing", store).ok


@pytest.mark.cluster
@pytest.mark.spark
@pytest.mark.tensorflow
def test_the_command_says_what_to_change_and_ends_so(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    lines = [f'[score]\nsource = "{tmp_path}/source"', f'predictions = "{tmp_path}/p"', f'quarantine = "{tmp_path}/q"']
    (tmp_path / "pipeline.toml").write_text("\n".join(lines))
    command = [sys.executable, "-m", "pneumospark", "doctor", "--config", str(tmp_path / "pipeline.toml")]
    command += ["--master", "local[1]", "--bundle", f"{tmp_path}/none"]
    env = environment(PYTHONPATH=str(ROOT), OMP_NUM_THREADS=str(8 + (os.cpu_count() or 1)))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    wrong = [line for line in done.stdout.splitlines() if line.startswith("FIX")]
    assert done.returncode == 1, done.stderr
    assert [line.split()[1] for line in wrong] == ["threads:", "bundle:"], done.stdout
    assert f"ok   write: file://{tmp_path}/p" in done.stdout and f"ok   source: file://{tmp_path}/source" in done.stdout
