"""The whole way on a real S3 server and on a real HDFS, and what a user reads where a store is not there."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import images
import ingest
import numpy as np
import pytest
import servers
from conftest import SHARES, SIDE, SPEC, call
from processes import ROOT, SMALL, SPARK_HOME, environment, wait_for
from pyspark.sql import SparkSession

from pneumospark.errors import DecodeError, SourceError, TableError
from pneumospark.io import drivers, files, tables
from pneumospark.io.copies import Copies
from pneumospark.io.drivers import Hdfs
from pneumospark.io.files import Store, plain
from pneumospark.io.s3 import S3
from pneumospark.io.stock import take_stock
from pneumospark.io.walks import LocalFileSystem
from pneumospark.schemas import IMAGES

pytestmark = pytest.mark.stores

BUCKET = "xray"
SOURCE, TABLES = "x rays 100% ö/肺", "tables 50% 表"
"""Folders below a store's root."""

ODD = (
    "NORMAL/röntgen 100%25 ü.png",
    "PNEUMONIA/肺炎 a+b=c&d.png",
    "PNEUMONIA/what?#;x[1]*{a}.png",
    "NORMAL/_no/.dot.png",
)
GARBAGE = b"not the Parquet that a reader would want"
QUICK_TO_CLOSE = tuple(
    f"--conf=spark.hadoop.dfs.client.block.write.locateFollowingBlock.{name}"
    for name in ("initial.delay.ms=20", "retries=10")
)
"""Spark closes a file on HDFS and asks whether it is whole; with the default it asks again after 0.4 s of idleness."""

LEFTOVERS = {
    "images": ("run_id=r0/_temporary/0/part-0.parquet", "run_id=r1/__magic_job-1/tasks/part-0.parquet"),
    "prepared": ("run_id=r0/_temporary/0/split=train/part-0.parquet", "run_id=r1/__magic_job-1/split=train/a.parquet"),
}
"""What dead runs leave in tables: files of which each would make a reader that looks at it fail."""


class Place(NamedTuple):
    """A store to run jobs on: where, what spark-submit needs for it, and the same for this process."""

    root: str
    options: tuple[str, ...]
    environment: dict[str, str]
    store: Store

    def uri(self, *below: str) -> str:
        return "/".join((self.root, *below))

    def submit(self, *jobs: tuple[str, ...]) -> "Ended":
        """Run jobs in one spark-submit."""
        command = [SPARK_HOME / "bin" / "spark-submit", *SMALL, "--master=local[2]", *self.options]
        command += [ROOT / "tests" / "in_turn.py", json.dumps(jobs)]
        env = environment(PYTHONPATH=str(ROOT), **self.environment)
        started = time.monotonic()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        # Spark's Python runner sends standard error the same way as standard output.
        *summaries, codes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(('{"job', "["))]
        return Ended(summaries, codes, done.stdout + done.stderr, time.monotonic() - started)


class Ended(NamedTuple):
    """What jobs left: the summaries of the good ones, all exit codes, all they said, and the seconds it took."""

    summaries: list[dict[str, Any]]
    codes: list[int]
    said: str
    seconds: float


class Way(NamedTuple):
    """The whole way on a store, twice over, and the files that it began with."""

    place: Place
    files: list[str]
    first: dict[str, dict[str, Any]]
    second: dict[str, dict[str, Any]]
    said: str


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    try:
        servers.fetch_jars(*servers.S3A)
    except servers.NoJarsError as error:
        pytest.skip(str(error))
    with servers.s3_server(tmp_path_factory.mktemp("s3"), BUCKET) as server:
        conf = ("--load-spark-defaults", f"--properties-file={ROOT / 'conf' / 's3a.conf'}")
        # The jars as they lie: to have them shipped at every start copies 570 MB.
        options = (*conf, "--conf=spark.jars.packages=", f"--driver-class-path={servers.IVY / 'jars'}/*")
        yield Place(f"s3a://{BUCKET}", options, server.environment(), server.store())


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    try:
        jar = servers.fetch_jars(*servers.MINICLUSTER)
    except servers.NoJarsError as error:
        pytest.skip(str(error))
    with servers.hdfs_servers(tmp_path_factory.mktemp("hdfs"), jar) as server:
        yield Place(server.uri, QUICK_TO_CLOSE, {}, Store())


@pytest.fixture(scope="module", params=["s3", "hdfs"])
def way(request: pytest.FixtureRequest, corpus: Path) -> Way:
    """All jobs over corpus, odd names and leftovers, and then all once more in the same process."""
    place: Place = request.getfixturevalue(request.param)
    sources = {str(path.relative_to(corpus)): path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    sources |= {name: images.png(np.roll(images.ramp(64, 64), shift)) for shift, name in enumerate(ODD)}
    written = {place.uri(SOURCE, name): content for name, content in sources.items()}
    written |= {place.uri(TABLES, table, name): GARBAGE for table, names in LEFTOVERS.items() for name in names}
    with ThreadPoolExecutor(8) as threads:  # to close a file on HDFS takes half a second
        list(threads.map(place.store.put, written, written.values()))
    if request.param == "s3":  # what a console's "new folder" leaves
        for folder in (SOURCE, f"{SOURCE}/NORMAL", f"{TABLES}/prepared/run_id=r0"):
            place.store.filesystem(place.root).call_s3("put_object", Bucket=BUCKET, Key=f"{folder}/", Body=b"")
    jobs = whole_way(place)
    done = place.submit(*jobs, *jobs)
    assert not any(done.codes), done.said
    names = ("ingest", "extract", "train", "features", "head", "score", "evaluate")
    first, second = done.summaries[: len(names)], done.summaries[len(names) :]
    found = [place.uri(SOURCE, name) for name in sources]
    return Way(place, found, dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True)), done.said)


def whole_way(place: Place) -> list[tuple[str, ...]]:
    """Arguments of the jobs: with pixels and with features, all of it on the store."""
    at = {name: place.uri(TABLES, name) for name in ("images", "quarantine", "prepared", "features", "predictions")}
    source, bundle, head = place.uri(SOURCE), place.uri(TABLES, "bundle"), place.uri(TABLES, "head")
    small, refused = ("--epochs=2", "--batch-size=8", "--threshold=0.5"), ("--quarantine", at["quarantine"])
    extract = ("extract", "--images", at["images"], "--prepared", at["prepared"], *SPEC)
    return [
        ("ingest", "--source", source, "--images", at["images"], *refused, *SHARES),
        extract,
        ("train", "--prepared", at["prepared"], "--bundle", bundle, *small),
        (*extract, "--features", at["features"], "--backbone", bundle),
        ("train", "--features", at["features"], "--bundle", head, *small),
        ("score", "--source", source, "--bundle", head, "--predictions", at["predictions"], *refused),
        ("evaluate", "--predictions", at["predictions"], "--images", at["images"], "--report", place.uri("report")),
    ]


def rows(place: Place, table: str, uri: str | None = None) -> list[dict[str, Any]]:
    """Rows of a table by plain pyarrow, of all files that Spark's readers see."""
    import pyarrow.parquet

    filesystem, found = place.store.filesystem(place.root), []
    for path, info in filesystem.find(plain(uri or place.uri(TABLES, table)), detail=True).items():
        if info["size"] and not re.search("/[_.]", path.partition(f"/{table}/")[2].join("//")):
            found += pyarrow.parquet.read_table(BytesIO(filesystem.cat_file(path))).to_pylist()
    return found


@pytest.fixture(scope="module", autouse=True)
def _spark_first(spark: SparkSession) -> None:
    """Start Spark's Java before the drivers' threads: to fork a process that has them can hang, as it did here."""


def test_every_file_is_accounted_for(way: Way) -> None:
    refused = {"not_an_image": 1, "truncated": 1}
    assert way.first["ingest"]["files"] == way.first["score"]["files"] == len(way.files)
    assert way.first["ingest"]["images"] == len(rows(way.place, "images")) == len(way.files) - 2
    assert way.first["ingest"]["reasons"] == refused
    assert (way.first["score"]["images"], way.first["score"]["reasons"]) == (len(way.files) - 2, refused)


def test_names_come_back_as_they_are(way: Way) -> None:
    bad = {row["path"] for row in rows(way.place, "quarantine")}
    assert len(bad) == 2
    assert {row["path"] for row in rows(way.place, "predictions")} == set(way.files) - bad
    assert all(way.place.store.read(path) for path in way.files)


def test_training_sees_each_row_once_an_epoch(way: Way) -> None:
    distinct = way.first["extract"]["images"]
    assert len(rows(way.place, "prepared")) == distinct == way.first["features"]["features"]
    for job in ("train", "head"):
        assert way.first[job]["epoch_rows"] == [way.first[job]["rows"]["train"]] * 2
    assert sum(way.first["train"]["rows"].values()) == len(labelled(way))


def labelled(way: Way) -> list[dict[str, Any]]:
    return [row for row in rows(way.place, "prepared") if row["label"] in ("normal", "pneumonia")]


def test_second_run_finds_its_work_done(way: Way) -> None:
    for job, done in (("ingest", "images"), ("extract", "wanted"), ("features", "features"), ("score", "images")):
        assert way.second[job][done] == 0, job
    for job in ("ingest", "score"):
        assert way.second[job]["known"] == len(way.files)
    for job in ("train", "head"):
        assert (way.second[job]["epochs"], way.second[job]["model_id"]) == (0, way.first[job]["model_id"])
    assert way.second["evaluate"]["confusion"] == way.first["evaluate"]["confusion"]
    assert way.place.store.fetch(way.second["evaluate"]["report"]).endswith(b"</html>")


def test_leftovers_of_dead_runs_stay_unseen(way: Way) -> None:
    for table, names in LEFTOVERS.items():
        for name in names:
            assert way.place.store.fetch(way.place.uri(TABLES, table, name)) == GARBAGE
    stock = take_stock(way.place.uri(TABLES, "prepared"), "pixels", way.place.store)
    assert sum(census.rows for census in stock.census.values()) == len(labelled(way))


def test_a_folder_of_hdfs_that_may_not_be_listed_is_an_error(hdfs: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for run_id in ("r1", "r2"):
        hdfs.store.put(hdfs.uri("mine", f"run_id={run_id}", "split=train", "a"), b"1")
    filesystem, hidden = hdfs.store.filesystem(hdfs.root), "/mine/run_id=r2"
    filesystem.client.set_permission(hidden, 0o700)
    monkeypatch.setenv("HADOOP_USER_NAME", "stranger")
    theirs = hdfs.root.replace("127.0.0.1", "localhost")  # another name, since drivers are kept, with their user
    with pytest.raises(TableError, match=rf'Permission denied: user=stranger,.*inode=."{hidden}.{{,50}}$'):
        take_stock(f"{theirs}/mine", "pixels", Store())
    filesystem.client.set_permission(hidden, 0o755)
    assert len(Store().filesystem(theirs).find("/mine")) == 2


def test_copies_on_a_local_disk_spare_the_store(way: Way, tmp_path: Path) -> None:
    """From the second epoch on the feed asks it nothing: there is none any more."""
    from pneumospark.io.dataset import Feed

    stock = take_stock(way.place.uri(TABLES, "prepared"), "pixels", way.place.store)
    feed = Feed(stock, "train", (SIDE, SIDE, 1), way.place.store, 0, copies=Copies(tmp_path, 2**30))
    batches = feed.batches(8)
    first = sum(len(y) for _, y in batches)
    feed._filesystem.fs = None
    assert sum(len(y) for _, y in batches) == first > 0
    feed.audit()


def test_the_committer_is_the_one_that_is_set(way: Way) -> None:
    run_id = way.first["ingest"]["run_id"]
    success = way.place.store.fetch(way.place.uri(TABLES, "images", f"run_id={run_id}", "_SUCCESS"))
    if way.place.root.startswith("s3a:"):
        assert json.loads(success)["committer"] == "magic"
    else:
        assert success == b""


def test_no_secret_is_said(way: Way) -> None:
    secret = way.place.environment.get("AWS_SECRET_ACCESS_KEY", "no secret here")
    assert secret not in way.said


def test_jobs_with_wrong_keys_say_so(s3: Place) -> None:
    wrong = s3._replace(environment=s3.environment | {"AWS_SECRET_ACCESS_KEY": "a-wrong-one"})
    ingest, extract, train, *_ = whole_way(wrong)
    ended = wrong.submit(ingest, extract, train)
    assert ended.codes == [1, 1, 1], ended.said
    refused = "the store refuses access, are the keys right?"
    for uri in (f"--source {s3.uri(SOURCE)}", s3.uri(TABLES, "images"), s3.uri(TABLES, "prepared")):
        assert re.search(f"^[a-z]+: SourceError: {re.escape(f'{uri}: {refused}')}", ended.said, re.M), ended.said
    assert_short(ended)
    assert "a-wrong-one" not in ended.said


def test_jobs_name_a_missing_bucket_and_a_missing_namenode(s3: Place) -> None:
    missing = s3._replace(root="s3a://xrays")
    nowhere = Place(f"hdfs://127.0.0.1:{servers.free_ports(1)[0]}", (), {}, Store())
    (ingest, extract, *_), (far, *_) = whole_way(missing), whole_way(nowhere)
    ended = s3.submit(ingest, extract, far)
    assert ended.codes == [1, 1, 1], ended.said
    assert re.search(r"^ingest: SourceError: --source s3a://xrays/.*: there is no bucket 'xrays'", ended.said, re.M)
    assert re.search(r"^extract: SourceError: s3a://xrays/.*: there is no bucket 'xrays'", ended.said, re.M)
    assert re.search(rf"^ingest: SourceError: --source {nowhere.root}/.* cannot be reached: ", ended.said, re.M)
    assert_short(ended)


def assert_short(ended: Ended) -> None:
    assert "Traceback" not in ended.said
    assert ended.seconds < 100  # three jobs; no single one waits longer than a minute


@pytest.fixture
def three(tmp_path: Path) -> Iterator[servers.Hdfs]:
    try:
        jar = servers.fetch_jars(*servers.MINICLUSTER)
    except servers.NoJarsError as error:
        pytest.skip(str(error))
    with servers.hdfs_servers(tmp_path, jar, nodes=3) as server:
        yield server


def test_a_run_outlives_one_of_three_datanodes(three: servers.Hdfs) -> None:
    """Killed while the files are read and written: every file is a row, and the rows are those of the files."""
    place = Place(three.uri, (), {}, Store())
    sources = {place.uri("s", f"NORMAL/{n}.png"): images.png(np.roll(images.ramp(400, 400), n)) for n in range(70)}
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(place.store.put, sources, sources.values()))
    table, uri = place.uri("images"), plain(place.uri("images"))
    args = ("ingest", "--source", place.uri("s"), "--images", table, "--quarantine", place.uri("quarantine"))

    def is_writing() -> bool:
        found = place.store.filesystem(three.uri).find(uri) if place.store.exists(table) else []
        return any("/_temporary/" in path for path in found)

    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(place.submit, args)
        wait_for(lambda: is_writing() or run.done())
        assert not run.done()
        three.nodes[1].kill()
        ended = run.result()
    assert ended.codes == [0], ended.said
    assert (ended.summaries[0]["images"], ended.summaries[0]["quarantined"]) == (70, 0)
    assert {row["path"]: row["content"] for row in rows(place, "images", place.uri("images"))} == sources
    assert call(ingest, *args[1:])["known"] == 70


def test_s3_is_read_without_s3fs_by_any_name(s3: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    written = {s3.uri("quick", name): name.encode() for name in (*ODD, "empty")} | {s3.uri("quick", "none"): b""}
    for uri, content in written.items():
        s3.store.put(uri, content)
    monkeypatch.delattr("s3fs.S3FileSystem._cat_file")
    assert {uri: s3.store.read(uri) for uri in written} == written


def test_what_the_quick_client_of_s3_cannot_read_s3fs_does(s3: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another region's bucket, a proxy, a certificate of the house: s3fs has ways that pyarrow's client lacks."""
    s3.store.put(s3.uri("slow", "a"), b"1")
    asked: list[str] = []

    class Client:
        def open_input_file(self, name: str) -> None:
            asked.append(name)
            raise OSError("AWS Error UNKNOWN (HTTP status 301)")

    monkeypatch.setattr(S3, "_client", lambda *_: Client())
    monkeypatch.setattr(s3.store.filesystem(s3.root), "clients", {})
    with pytest.raises(FileNotFoundError):
        s3.store.fetch(s3.uri("slow", "b"))  # s3fs has not read it either: that says nothing of the client
    assert [s3.store.fetch(s3.uri("slow", "a")) for _ in range(3)] == [b"1"] * 3
    assert asked == [f"{BUCKET}/slow/b", f"{BUCKET}/slow/a"]


def test_the_quick_client_asks_where_s3fs_does(s3: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only ~/.aws/config names the store: never AWS for a key of the house."""
    s3.store.put(s3.uri("named", "a"), b"1")
    options = dict(s3.store.options["s3a"])
    (tmp_path / "config").write_text(f"[default]\nendpoint_url = {options.pop('endpoint_url')}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delattr("s3fs.S3FileSystem._cat_file")
    assert Store({"s3a": options}).fetch(s3.uri("named", "a")) == b"1"


@pytest.mark.spark
def test_python_writes_to_s3_as_spark_is_told_to(s3: Place, spark: SparkSession, tmp_path: Path) -> None:
    account, hadoop = s3.store.options["s3a"], spark.sparkContext._jsc.hadoopConfiguration()
    said = {
        "hadoop.security.credential.provider.path": f"localjceks://file{tmp_path}/keys.jceks",
        "fs.s3a.endpoint": account["endpoint_url"],
        "fs.s3a.encryption.algorithm": "AES256",
    }
    for name, value in said.items():
        hadoop.set(name, value)
    try:
        keys = spark._jvm.org.apache.hadoop.security.alias.CredentialProviderFactory.getProviders(hadoop)[0]
        for name in ("key", "secret"):
            kept = spark.sparkContext._gateway.new_array(spark._jvm.char, len(account[name]))
            for place, letter in enumerate(account[name]):
                kept[place] = letter
            keys.createCredentialEntry(f"fs.s3a.{'access' if name == 'key' else name}.key", kept)
        keys.flush()
        store = files.store_of(spark)
        store.put(s3.uri("told", "a"), b"1")
        assert store.fetch(s3.uri("told", "a")) == b"1"
        head = store.filesystem(s3.root).call_s3("head_object", Bucket=BUCKET, Key="told/a")
        assert head["ServerSideEncryption"] == "AES256"
        hadoop.set("fs.s3a.encryption.algorithm", "SSE-KMS")
        hadoop.set("fs.s3a.encryption.key", "arn:aws:kms:of-the-house")
        kms = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:of-the-house"}
        assert files.store_of(spark).options["s3a"]["s3_additional_kwargs"] == kms
        hadoop.set("fs.s3a.encryption.algorithm", "SSE-C")
        refusing = files.store_of(spark)
        with pytest.raises(SourceError, match=r"encryption\.algorithm: expected one of AES256, .*, got SSE-C"):
            refusing.put(s3.uri("told", "b"), b"1")
        assert refusing.exists(f"file://{tmp_path}")  # a job without S3 has nothing to do with it
        (tmp_path / "broken.jceks").write_bytes(b"no key store")
        hadoop.set("hadoop.security.credential.provider.path", f"localjceks://file{tmp_path}/broken.jceks")
        with pytest.raises(SourceError, match=r"credential\.provider\.path cannot be read: .*Exception"):
            files.store_of(spark).exists(s3.uri("told", "a"))
    finally:
        for name in (*said, "fs.s3a.encryption.key"):
            hadoop.unset(name)


def test_nothing_is_written_into_a_missing_bucket(s3: Place) -> None:
    with pytest.raises(SourceError, match=r"s3a://xrays/b/bundle\.json: cannot be written: FileNotFoundError"):
        s3.store.put("s3a://xrays/b/bundle.json", b"{}")
    with pytest.raises(SourceError, match="there is no bucket 'xrays'"):
        s3.store.exists("s3a://xrays/b")


def test_keys_with_an_empty_folder_are_refused_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    # As s3fs lists xray/empty//a.png; SeaweedFS makes one slash of two, AWS does not.
    listed = [{"name": "xray/empty/", "type": "directory", "size": 0}]
    monkeypatch.setattr("s3fs.S3FileSystem.ls", lambda *_, **__: listed)
    with pytest.raises(SourceError, match=r"expected no keys with '//' in them, found xray/empty//"):
        list(Store().list_folder("s3a://xray/empty"))


def test_an_object_whose_answers_are_cut_short_is_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = b"<ListBucketResult><Contents><Key>x/a.png</Key><Size>100</Size></Contents></ListBucketResult>"

    class Answers(BaseHTTPRequestHandler):
        """An S3 of one object of 100 bytes, of which it gives 50."""

        def do_HEAD(self) -> None:
            self.answer(b"", 100)

        def do_GET(self) -> None:
            body = listing if "list-type" in self.path else b"x" * 50
            self.answer(body, len(listing) if body is listing else 100)

        def answer(self, body: bytes, length: int) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        store = Store({"s3a": {"key": "k", "secret": "s", "endpoint_url": endpoint, "use_listings_cache": False}})
        with pytest.raises(DecodeError, match=r"unreadable: ClientPayloadError: .*received 50 of 100 bytes"):
            store.read("s3a://b/x/a.png")
        server.shutdown()


@pytest.mark.parametrize("kind", [LocalFileSystem, Hdfs, S3])
def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    error: list[OSError] = [ConnectionError("reset")]

    def ls(path: str, **_: object) -> list[dict[str, Any]]:
        if path.endswith("/r1"):
            raise error[0]
        return [{"name": f"{path}/{name}", "type": kind} for name, kind in (("r1", "directory"), ("a", "file"))]

    filesystem = kind(host="127.0.0.1", port=1) if kind is Hdfs else kind()
    monkeypatch.setattr(filesystem, "ls", ls)
    with pytest.raises(ConnectionError, match="reset"):
        list(filesystem.walk("/t"))
    error[0] = FileNotFoundError("another run took away what it needs no more")
    assert [files for _, _, files in filesystem.walk("/t")] == [["a"]]


@pytest.mark.parametrize("scheme", ["s3a", "hdfs"])
def test_nobody_listens(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "NAMENODE_ATTEMPTS", "2")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    port = servers.free_ports(1)[0]
    store = servers.S3(f"http://127.0.0.1:{port}", "key", "a-secret").store()
    root = "s3a://xray" if scheme == "s3a" else f"hdfs://127.0.0.1:{port}"
    with pytest.raises(SourceError, match=r"the store cannot be reached: .*(Could not connect|refused)") as error:
        store.read(f"{root}/a.png")  # not "unreadable": that would send every file to quarantine
    assert "a-secret" not in str(error.value)


@pytest.mark.parametrize("scheme", ["s3a", "hdfs"])
def test_somebody_listens_and_says_nothing(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "DEADLINE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = servers.S3(f"http://127.0.0.1:{port}", "key", "a-secret").store()
        root = "s3a://xray" if scheme == "s3a" else f"hdfs://127.0.0.1:{port}"
        with pytest.raises(SourceError, match="the store cannot be reached: TimeoutError: no answer in 1 s"):
            store.exists(f"{root}/a.png")


@pytest.mark.spark
def test_spark_without_the_driver_says_how_to_get_it(spark: SparkSession) -> None:
    with pytest.raises(TableError, match=r"s3a://xray/t: Spark has no driver for it: .*S3AFileSystem.*conf/s3a\.conf"):
        tables.read(spark, "s3a://xray/t", IMAGES)
