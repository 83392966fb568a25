"""What must fit before a job can go well: facts in, findings out. `doctor` prints all, jobs warn of the cheap ones."""

import os
import platform
import re
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import psutil

PINS = {
    "pyspark": "4.0.5",
    "tensorflow": "2.21.0",
    "keras": "3.15.1",
    "petastorm": "0.12.1",  # 0.13 loses rows
    "pyarrow": "14.0.2",
    "numpy": "1.26.4",
    "pandas": "2.3.3",
    "pillow": "13.0.0",
}
"""The versions that were tested together, as pyproject.toml has them."""

PYTHONS = ((3, 11), (3, 12))
JAVAS = (17, 21)
WORKER = 1000 * 2**20
"""Bytes of a Python worker with TensorFlow and a small network: 920 MB were seen. A large one needs more."""

BATCHES = 3
"""Arrow batches that are in a worker at once: the one that comes, the one in work, the one that goes."""

UNITS = {"": 2**20, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
"""Of Spark's sizes of memory; a bare number is in MiB."""

Conf = Callable[[str, str], str]
"""A setting of Spark by name, and what counts where it is not set."""


class Finding(NamedTuple):
    """One line for a person: what was looked at, whether it is as it should be, what is there or is to be changed."""

    check: str
    ok: bool
    said: str

    def __str__(self) -> str:
        """`ok   java: 17` or `FIX  java: ...`."""
        return f"{'ok  ' if self.ok else 'FIX '} {self.check}: {self.said}"


def cheap(conf: Conf) -> list[Finding]:
    """What is known without a look at any store or device: versions, threads, memory."""
    return [
        versions_fit({name: _version(name) for name in PINS}, tuple(map(int, platform.python_version_tuple()[:2]))),
        threads(
            os.environ.get("OMP_NUM_THREADS"), int(conf("spark.task.cpus", "1")), int(conf("spark.executor.cores", "0"))
        ),
        memory(conf, psutil.virtual_memory().total, os.cpu_count() or 1),
    ]


def versions_fit(found: Mapping[str, str | None], python: tuple[int, ...]) -> Finding:
    """Whether packages (None: not installed) and Python are those that were tested together."""
    wrong = [
        f"{name} {found.get(name) or 'missing'}, expected {pin}" for name, pin in PINS.items() if found.get(name) != pin
    ]
    if python not in PYTHONS:
        wrong.append(f"Python {'.'.join(map(str, python))}, expected 3.11 or 3.12")
    return Finding(
        "versions", not wrong, "; ".join(wrong) + ": pip install -r requirements.txt" if wrong else "as tested"
    )


def java_fits(said: str | None) -> Finding:
    """By what `java -version` says, None where there is no Java."""
    if said is None:
        return Finding("java", False, "none found: make setup brings one, or set JAVA_HOME to a Java 17 or 21")
    found = re.search(r'version "(\d+)', said)
    major = int(found.group(1)) if found else 0
    if major in JAVAS:
        return Finding("java", True, str(major))
    return Finding("java", False, f"{major or said[:40]}: Spark 4.0 was tested with 17 and 21; set JAVA_HOME to one")


def threads(omp: str | None, task_cpus: int, executor_cores: int) -> Finding:
    """Whether tasks keep to their cores; `executor_cores` is 0 where Spark decides."""
    if omp and omp.isdigit() and int(omp) > task_cpus:
        return Finding(
            "threads",
            False,
            f"OMP_NUM_THREADS is {omp} and spark.task.cpus {task_cpus}: unset it, or tasks share cores",
        )
    if executor_cores and executor_cores < task_cpus:
        said = (
            f"spark.executor.cores {executor_cores} is less than spark.task.cpus {task_cpus}: no task would ever start"
        )
        return Finding("threads", False, said)
    if executor_cores % task_cpus:
        said = f"spark.executor.cores {executor_cores} is no multiple of spark.task.cpus {task_cpus}: cores lie idle"
        return Finding("threads", False, said)
    return Finding("threads", True, f"{task_cpus} a task")


def memory(conf: Conf, machine: int, machine_cores: int) -> Finding:
    """Whether Python's workers have the memory that they need; `machine` in bytes.

    They live outside Java's heap: on YARN and Kubernetes in the executor's overhead, with local[*] beside the driver.
    """
    batch = memory_bytes(conf("spark.sql.execution.arrow.maxBytesPerBatch", "32m"), bare=1)
    master, task_cpus = conf("spark.master", "local[*]"), int(conf("spark.task.cpus", "1"))
    worker = WORKER + BATCHES * batch
    if master.startswith("local"):
        cores = int(found.group(1)) if (found := re.match(r"local\[(\d+)", master)) else machine_cores
        heap = memory_bytes(conf("spark.driver.memory", "1g"))
        needed = heap + cores // task_cpus * worker
        said = f"{_mb(needed)} for {cores // task_cpus} tasks and Java, of {_mb(machine)}"
        fewer = max(1, (machine - heap) // worker)
        return Finding(
            "memory", needed <= machine, said + ("" if needed <= machine else f": --master 'local[{fewer}]'")
        )
    if not master.startswith(("yarn", "k8s")):
        return Finding("memory", True, f"{_mb(worker)} a task, beside Java's; a standalone worker does not count it")
    tasks = max(1, int(conf("spark.executor.cores", "1")) // task_cpus)
    heap = memory_bytes(conf("spark.executor.memory", "1g"))
    factor = conf("spark.executor.memoryOverheadFactor", "0.4" if master.startswith("k8s") else "0.1")
    default = str(max(384, int(heap * float(factor)) // 2**20))
    given = memory_bytes(conf("spark.executor.memoryOverhead", default)) + memory_bytes(
        conf("spark.executor.pyspark.memory", "0")
    )
    needed = tasks * worker
    said = f"{tasks} tasks of {_mb(worker)} in an overhead of {_mb(given)}"
    return Finding(
        "memory",
        given >= needed,
        said + ("" if given >= needed else f": spark.executor.memoryOverhead={-(-needed // 2**20)}m"),
    )


def row_groups(found: Mapping[str, int], readers: int) -> Finding:
    """Whether each of so many readers has at least four row groups of each split to draw from."""
    few = {split: groups for split, groups in found.items() if groups < readers}
    said = f"{dict(found)} for {readers} readers"
    if few:
        return Finding("row groups", False, f"{said}: fewer readers, or extract anew with smaller files")
    return Finding(
        "row groups", True, said + ("" if min(found.values()) >= 4 * readers else "; four each shuffle better")
    )


def gpu(devices: int, seen: int) -> Finding:
    """Whether TensorFlow sees the machine's NVIDIA devices."""
    if devices and not seen:
        return Finding(
            "gpu", False, f"{devices} here, TensorFlow sees none: pip install 'tensorflow[and-cuda]==2.21.0'"
        )
    return Finding("gpu", True, f"TensorFlow sees {seen}")


def memory_bytes(text: str, bare: int = 2**20) -> int:
    """Bytes of a size as Spark writes it (512m, 4g); raises ValueError for what is none."""
    if not (found := re.fullmatch(r"(\d+)\s*([bkmgt]?)b?", text.strip().lower())):
        raise ValueError(f"{text!r}: expected a size such as 512m or 4g")
    number, unit = found.groups()
    return int(number) * (UNITS[unit] if unit else bare)


def _mb(size: int) -> str:
    return f"{size // 2**20} MB"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
