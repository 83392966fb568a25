"""Real servers for tests, on loopback and without root: S3 (SeaweedFS) and HDFS (a NameNode and DataNodes)."""

import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from pneumospark.io.files import Store, plain

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
IVY = Path(os.environ.get("PNEUMOSPARK_IVY", Path.home() / ".cache" / "pneumospark-ivy"))
"""Where Spark's resolver keeps the jars: outside the checkout, so that they are fetched once a machine."""

MINICLUSTER = (
    "org.apache.hadoop_hadoop-client-minicluster-3.4.1.jar",
    "--packages=org.apache.hadoop:hadoop-client-minicluster:3.4.1",
    "--exclude-packages=org.apache.hadoop:hadoop-client-api,org.apache.hadoop:hadoop-client-runtime",
)
"""NameNode, DataNode and their web pages; Spark's own jars hold the rest of Hadoop 3.4.1."""

S3A = ("org.apache.hadoop_hadoop-aws-3.4.1.jar", f"--properties-file={ROOT / 'conf' / 's3a.conf'}")
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""A test's Java lives for minutes: a second compiler, and a collector of many threads, cost more than they bring."""

PATIENCE = 90
"""Seconds until a server must have come up: ten on an idle machine."""

Ready = Callable[[], bool]


class NoJarsError(Exception):
    """No Maven repository gives the jars, and none are kept from an earlier run."""


class S3(NamedTuple):
    """A running S3 server and the account that it knows."""

    endpoint: str
    key: str
    secret: str

    def store(self) -> Store:
        """This server as jobs read and write files on it, by fsspec."""
        account = {"key": self.key, "secret": self.secret, "endpoint_url": self.endpoint}
        return Store({"s3a": {**account, "use_listings_cache": False}})

    def environment(self) -> dict[str, str]:
        """What a job finds it by."""
        keys = {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}
        return keys | {"AWS_ENDPOINT_URL": self.endpoint}


class Hdfs(NamedTuple):
    """A running HDFS, its DataNodes, and the address of the NameNode's web page."""

    uri: str
    nodes: "list[subprocess.Popen[bytes]]"
    http: str

    def live_nodes(self) -> int:
        return _live_nodes(self.http)


def fetch_jars(jar: str, *arguments: str) -> Path:
    """Have Spark's own resolver fetch what arguments of `spark-submit` ask for into IVY, unless `jar` is there.

    Returns where that one is; raises NoJarsError.
    """
    IVY.mkdir(parents=True, exist_ok=True)
    with (IVY / "nothing.py").open("w") as nothing:  # the script to submit
        fcntl.flock(nothing, fcntl.LOCK_EX)  # another test process may be fetching them
        if (found := IVY / "jars" / jar).exists():
            return found
        command: list[Path | str] = [BIN / "spark-submit", "--conf", f"spark.jars.ivy={IVY}", *arguments, nothing.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "not found" in line or "Exception" in line]
        raise NoJarsError(f"no Maven repository gives {' '.join(arguments)}: {said[:1]}")
    return found


@contextmanager
def s3_server(folder: Path, bucket: str) -> Iterator[S3]:
    """SeaweedFS with one empty bucket and one account, made up for this server."""
    # Each of its HTTP ports has a gRPC twin, 10,000 above unless it is named.
    names = ("master", "volume", "filer", "s3", "admin")
    ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], free_ports(2 * len(names)), strict=True))
    numbers = [f"-{name.replace('.grpc', '')}.port{'.grpc' * name.endswith('.grpc')}={ports[name]}" for name in ports]
    server = S3(f"http://127.0.0.1:{ports['s3']}", "test-key", f"not-a-real-secret-{secrets.token_hex(8)}")
    account = {"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret}
    # autoCreateBucket would make a bucket for any name that something is written to.
    off = ("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false")
    place = (f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={bucket}")
    command = [BIN / "weed", "mini", *place, *numbers, *off]
    with process(command, folder / "weed.log", account, lambda: _buckets(server, bucket)):
        yield server


@contextmanager
def hdfs_servers(folder: Path, jar: Path, nodes: int = 1) -> Iterator[Hdfs]:
    """A NameNode and DataNodes by Spark's own start script: its Java, its Hadoop, and the minicluster's jar.

    Each block lies on all DataNodes.
    """
    rpc, http, *of_nodes = (f"127.0.0.1:{port}" for port in free_ports(2 + 3 * nodes))
    uri = f"hdfs://{rpc}"
    for number in range(nodes):
        places = (rpc, http, *of_nodes[3 * number : 3 * number + 3])
        ports = dict(zip(("rpc", "http", "data", "data.http", "data.ipc"), places, strict=True))
        _configure(folder / f"conf{number}", uri, folder, ports, nodes)
    java = {
        "HADOOP_CONF_DIR": str(folder / "conf0"),
        "SPARK_DIST_CLASSPATH": str(jar),
        "SPARK_DRIVER_MEMORY": "256m",  # the heap of any class that spark-class does not know
        "JDK_JAVA_OPTIONS": QUICK_JAVA,  # spark-class has no options for such a class
    }
    name_node, data_node = (
        (str(BIN / "spark-class"), f"org.apache.hadoop.hdfs.server.{name}")
        for name in ("namenode.NameNode", "datanode.DataNode")
    )
    with (folder / "format.log").open("wb") as log:
        subprocess.run(
            [*name_node, "-format", "-nonInteractive"], env=os.environ | java, check=True, stdout=log, stderr=log
        )
    with ExitStack() as running:
        running.enter_context(process(name_node, folder / "namenode.log", java, lambda: _answers(rpc)))
        started = []
        for number in range(nodes):
            conf = {"HADOOP_CONF_DIR": str(folder / f"conf{number}")}
            ready = partial(_are_live, http, number + 1)
            log = folder / f"datanode{number}.log"
            started.append(running.enter_context(process(data_node, log, java | conf, ready)))
        yield Hdfs(uri, started, http)


@contextmanager
def process(
    command: Sequence[object], log: Path, environment: dict[str, str], ready: Ready
) -> "Iterator[subprocess.Popen[bytes]]":
    """A process that is ready inside the block and gone after it."""
    with log.open("wb") as output:
        words = [str(word) for word in command]
        server = subprocess.Popen(words, env=os.environ | environment, stdout=output, stderr=output)
    try:
        until = time.monotonic() + PATIENCE
        while not ready():
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        yield server
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def fetch(table: str, folder: Path) -> Path:
    """Copy the files of a table on HDFS, but empty ones, below a folder of this machine, which is returned."""
    filesystem = Store().filesystem(table)
    for path, info in filesystem.find(plain(table), detail=True).items():
        if info["size"]:
            copy = folder / path.partition(f"{plain(table)}/")[2]
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(filesystem.cat_file(path))
    return folder


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def _buckets(server: S3, bucket: str) -> bool:
    from botocore.exceptions import BotoCoreError

    with suppress(OSError, BotoCoreError):
        return bucket in server.store().filesystem("s3a://").ls("")
    return False


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


def _are_live(address: str, nodes: int) -> bool:
    return _live_nodes(address) == nodes


def _live_nodes(address: str) -> int:
    with suppress(URLError, OSError, ValueError, LookupError):  # it answers before it knows
        page = f"http://{address}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
        with urlopen(page, timeout=5) as answer:
            return int(json.load(answer)["beans"][0]["NumLiveDataNodes"])
    return 0


def _configure(conf: Path, uri: str, folder: Path, ports: dict[str, str], replication: int) -> None:
    conf.mkdir(parents=True)
    settings = {
        "fs.defaultFS": uri,
        "dfs.namenode.name.dir": f"file://{folder}/name",
        "dfs.datanode.data.dir": f"file://{folder}/data-{conf.name}",
        "dfs.replication": str(replication),
        "dfs.namenode.http-address": ports["http"],
        "dfs.datanode.address": ports["data"],
        "dfs.datanode.http.address": ports["data.http"],
        "dfs.datanode.ipc.address": ports["data.ipc"],
        "dfs.datanode.hostname": "127.0.0.1",
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
    }
    lines = "".join(
        f"<property><name>{name}</name><value>{value}</value></property>" for name, value in settings.items()
    )
    for name in ("core-site.xml", "hdfs-site.xml"):
        (conf / name).write_text(f"<configuration>{lines}</configuration>\n")
