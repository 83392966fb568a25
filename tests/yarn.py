"""A real YARN for tests, on loopback and without root: a ResourceManager, and a NodeManager without our code."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import servers

WEB_PAGES = (
    "com.sun.xml.bind_jaxb-impl-2.2.11.jar",
    "--packages=org.bouncycastle:bcprov-jdk18on:1.78.1,org.bouncycastle:bcpkix-jdk18on:1.78.1,"
    "javax.xml.bind:jaxb-api:2.2.11,com.sun.xml.bind:jaxb-core:2.2.11,com.sun.xml.bind:jaxb-impl:2.2.11,"
    "javax.activation:activation:1.1.1",
)
"""What the two servers need beside the minicluster's jar; about 11 MB."""

OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OLDPWD", "PWD", "PNEUMOSPARK_DATA", "PNEUMOSPARK_PATIENT_KEY")
"""Variables by which a node could find more of this project than what an application brings."""


class Yarn(NamedTuple):
    """A running YARN: the folder for HADOOP_CONF_DIR, and where the containers of applications leave their logs."""

    conf: Path
    logs: Path

    def said(self, application: str, name: str) -> str:
        """All that containers of an application wrote to `stdout` or `stderr`; the driver is in the first."""
        return "".join(path.read_text() for path in sorted(self.logs.glob(f"{application}/*/{name}")))


@contextmanager
def yarn_servers(folder: Path, hdfs: str, megabytes: int) -> Iterator[Yarn]:
    """A ResourceManager and one NodeManager of a memory, whose default file system is an HDFS; raises NoJarsError."""
    jars = [servers.fetch_jars(*servers.MINICLUSTER)]
    servers.fetch_jars(*WEB_PAGES)
    groups = ("javax.activation", "javax.xml.bind", "com.sun.xml.bind", "org.bouncycastle")
    jars += [jar for group in groups for jar in (servers.IVY / "jars").glob(f"{group}_*.jar")]
    conf, home = folder / "conf", folder / "home"
    for new in (conf, home):
        new.mkdir(parents=True)
    web = _configure(conf, folder, hdfs, megabytes)
    environment = {
        "HADOOP_CONF_DIR": str(conf),
        "SPARK_DIST_CLASSPATH": ":".join(map(str, jars)),
        "SPARK_DRIVER_MEMORY": "300m",  # the heap of any class that spark-class does not know
        "JAVA_HOME": str(java_home()),
        "JDK_JAVA_OPTIONS": "--add-opens=java.base/java.lang=ALL-UNNAMED",
        "HOME": str(home),
        **dict.fromkeys(OURS, ""),
    }
    manager, node = (
        (servers.BIN / "spark-class", f"org.apache.hadoop.yarn.server.{name}")
        for name in ("resourcemanager.ResourceManager", "nodemanager.NodeManager")
    )
    with (
        servers.process(manager, folder / "resourcemanager.log", environment, lambda: _nodes(web) == 0),
        servers.process(node, folder / "nodemanager.log", environment, lambda: _nodes(web) == 1),
    ):
        yield Yarn(conf, folder / "logs")


def java_home() -> Path:
    """Of the Java that Spark itself starts with: the one that `make setup` chose, JAVA_HOME, or the one on the PATH."""
    chosen = servers.BIN.parent / "java"
    if (chosen / "bin" / "java").exists():
        return chosen
    found = shutil.which("java")
    return Path(os.environ.get("JAVA_HOME") or Path(found or "/usr/bin/java").resolve().parents[1])


def _nodes(web: str) -> int:
    """How many NodeManagers are at work; -1 where the ResourceManager does not answer yet."""
    page = f"http://{web}/ws/v1/cluster/metrics"
    with suppress(URLError, OSError, ValueError, LookupError), urlopen(page, timeout=5) as answer:
        return int(json.load(answer)["activeNodes"])
    return -1


def _configure(conf: Path, folder: Path, hdfs: str, megabytes: int) -> str:
    """Write the settings of both servers and of their clients; the address of the ResourceManager's web page."""
    parts = ("", "scheduler.", "resource-tracker.", "admin.", "webapp.")
    of_manager, of_node = ([f"127.0.0.1:{port}" for port in servers.free_ports(count)] for count in (5, 3))
    _write(conf / "core-site.xml", {"fs.defaultFS": hdfs})
    site = {
        "yarn.resourcemanager.hostname": "127.0.0.1",
        "yarn.resourcemanager.bind-host": "127.0.0.1",
        **{f"yarn.resourcemanager.{part}address": at for part, at in zip(parts, of_manager, strict=True)},
        "yarn.nodemanager.hostname": "127.0.0.1",
        "yarn.nodemanager.bind-host": "127.0.0.1",
        **{
            f"yarn.nodemanager.{part}address": at
            for part, at in zip(("", "localizer.", "webapp."), of_node, strict=True)
        },
        "yarn.nodemanager.resource.memory-mb": megabytes,
        "yarn.nodemanager.resource.cpu-vcores": 4,
        "yarn.nodemanager.local-dirs": folder / "local",
        "yarn.nodemanager.log-dirs": folder / "logs",
        "yarn.nodemanager.vmem-check-enabled": "false",
        "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": 99,
        "yarn.scheduler.minimum-allocation-mb": 256,
    }
    _write(conf / "yarn-site.xml", site)
    queue = "yarn.scheduler.capacity"
    shares = {"root.queues": "default", "root.default.capacity": 100, "maximum-am-resource-percent": 0.9}
    _write(conf / "capacity-scheduler.xml", {f"{queue}.{name}": value for name, value in shares.items()})
    return of_manager[-1]


def _write(path: Path, settings: dict[str, object]) -> None:
    lines = "".join(
        f"<property><name>{name}</name><value>{value}</value></property>" for name, value in settings.items()
    )
    path.write_text(f"<configuration>{lines}</configuration>\n")
