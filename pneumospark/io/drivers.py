"""The fsspec drivers of remote stores: set up as Spark is, the errors they raise, and no waiting for ever."""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Thread
from typing import Any

import fsspec
from aiohttp import ClientError
from botocore.exceptions import BotoCoreError
from hdfs_native.fsspec import HdfsFileSystem
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from pneumospark.io.walks import Complete

S3_SCHEMES = ("s3a", "s3", "s3n")
S3_KEYS = {
    "fs.s3a.access.key": "key",
    "fs.s3a.secret.key": "secret",
    "fs.s3a.session.token": "token",
}
"""What s3fs calls the secrets that Spark has for s3a."""

REFUSED = "refused"
"""In a driver's options: why it must not be used."""

S3_ENCRYPTION = {"AES256": "AES256", "SSE-KMS": "aws:kms", "DSSE-KMS": "aws:kms:dsse"}
"""What S3 itself calls the ways of encrypting that s3a knows, where S3 does it and keeps the keys."""

AWS_ENDPOINT = "s3.amazonaws.com"
"""Stands in Hadoop for "none named"; left alone, s3fs takes that of the bucket's region."""

NAMENODES = ("dfs.ha.namenodes.", "dfs.namenode.rpc-address.", "dfs.client.failover.")
"""The settings that tell where the NameNodes of a name service are."""

LINE_END = r"\n|\\n\\t"
"""In a driver's error: a line's end, or how hdfs_native shows one and the tab after it."""

NAMENODE_ATTEMPTS = "4"
"""Some 10 s; Hadoop's 15 take 150 s until a wrong address is an error. Name services keep these: they fail over."""

WRITE_ATTEMPTS = 8
"""With one of three DataNodes dead, all of them fail once in 6,500 times."""

FAILURES = (OSError, BotoCoreError, ClientError, RuntimeError)
"""What drivers raise: OSError for most, hdfs_native RuntimeError, too, s3fs BotoCoreError where no server answers, and
aiohttp's ClientError where an answer was cut short."""


class Hdfs(Complete, HdfsFileSystem):
    """hdfs_native, which needs neither a JVM nor libhdfs, for any name: its own way cuts names off at "?" and "#"."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write a file whole, also where a DataNode is dead that the NameNode, for ten minutes, takes for alive.

        hdfs_native 0.14 gives up a write whose DataNodes are not all there. So the next attempts ask for one copy,
        which the NameNode puts on another node each time, and let it make the others.
        """
        try:
            super().pipe_file(path, value, mode=mode, **kwargs)
            return
        except (RuntimeError, ConnectionError):
            copies = (
                self.client.get_file_info(self._strip_protocol(path)).replication or 1
            )  # the failed one left an entry
        for attempt in range(WRITE_ATTEMPTS):
            try:
                super().pipe_file(path, value, mode="overwrite", replication=1)
                break
            except (RuntimeError, ConnectionError):
                if attempt + 1 == WRITE_ATTEMPTS:
                    raise
        self.client.set_replication(self._strip_protocol(path), copies)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path if path.startswith("/") else str(super()._strip_protocol(path))


def hdfs(authority: str, settings: Mapping[str, str]) -> fsspec.AbstractFileSystem:
    """The file system of a NameNode, host:port, or of a name service that the settings know. Raises FAILURES."""
    host, _, port = authority.partition(":")
    is_service = f"dfs.ha.namenodes.{host}" in settings  # then the settings have its hosts and ports
    if is_service:
        return Hdfs(host=host, port=None, **settings)
    return Hdfs(host=host, port=int(port or 8020), **{"dfs.client.failover.max.attempts": NAMENODE_ATTEMPTS})


def options_of(spark: SparkSession) -> dict[str, dict[str, Any]]:
    """Options of the drivers by scheme, as Spark is set up (fs.s3a.*, fs.defaultFS, dfs.*); they may hold secrets."""
    java_class(spark, "org.apache.hadoop.hdfs.HdfsConfiguration").init()  # reads hdfs-site.xml
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    namenodes = {prefix + key: value for prefix in NAMENODES for key, value in _beginning_with(prefix, hadoop).items()}
    default = (hadoop.get("fs.defaultFS") or "").removeprefix("hdfs://").strip("/")
    return {**dict.fromkeys(S3_SCHEMES, _s3(spark._jvm, hadoop)), "hdfs": {"default": default, "namenodes": namenodes}}


def java_class(spark: SparkSession, name: str) -> Any:
    """A class of Spark's Java by its whole name.

    As `spark._jvm.org.apache...` it would be asked for part by part, and for each part Java looks through all jars.
    """
    return getattr(spark._jvm, name)


def within(seconds: float, call: Callable[[], bool]) -> bool:
    """What a call returns or raises; TimeoutError where it takes longer, and then it is left to itself."""
    answer: Future[bool] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # whatever it is, it is raised where `within` was called
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer in {seconds:.0f} s") from error


def said(error: BaseException) -> str:
    """An error as one line: a Java server's answer has its stack trace in it."""
    return f"{type(error).__name__}: {re.split(LINE_END, str(error).strip())[0]}"


def _beginning_with(prefix: str, hadoop: Any) -> dict[str, str]:
    """Settings by the rest of their name. Where there are none it does not iterate: to end takes PySpark 50 calls."""
    found = hadoop.getPropsWithPrefix(prefix)
    return {} if found.isEmpty() else dict(found.items())


def _s3(java: Any, hadoop: Any) -> dict[str, Any]:
    # Listings must not be kept: a job asks again for what it, or another one, has written since.
    options: dict[str, Any] = {"use_listings_cache": False}
    endpoint = hadoop.getTrimmed("fs.s3a.endpoint") or AWS_ENDPOINT
    if endpoint != AWS_ENDPOINT:
        secure = hadoop.get("fs.s3a.connection.ssl.enabled") != "false"
        options["endpoint_url"] = endpoint if "://" in endpoint else f"{'https' if secure else 'http'}://{endpoint}"
    if region := hadoop.get("fs.s3a.endpoint.region"):
        options["client_kwargs"] = {"region_name": region}
    if hadoop.get("fs.s3a.path.style.access") == "true":
        options["config_kwargs"] = {"s3": {"addressing_style": "path"}}
    # What is wrong here is said where S3 is used, and only there.
    try:
        options |= {name: value for key, name in S3_KEYS.items() if (value := _secret(java, hadoop, key))}
        if way := hadoop.get("fs.s3a.encryption.algorithm"):
            key = "" if way == "AES256" else _secret(java, hadoop, "fs.s3a.encryption.key")
            asked = {"ServerSideEncryption": S3_ENCRYPTION[way], "SSEKMSKeyId": key}
            options["s3_additional_kwargs"] = {name: value for name, value in asked.items() if value}
    except KeyError:
        known = ", ".join(S3_ENCRYPTION)
        options[REFUSED] = f"fs.s3a.encryption.algorithm: expected one of {known}, got {way}"
    except Py4JJavaError as error:
        options[REFUSED] = f"hadoop.security.credential.provider.path cannot be read: {error.java_exception}"
    return options


def _secret(java: Any, hadoop: Any, key: str) -> str:
    """A setting, or what a credential store (hadoop.security.credential.provider.path) keeps under its name."""
    found = hadoop.getPassword(key)
    return str(java.java.lang.String.valueOf(found)).strip() if found else ""
