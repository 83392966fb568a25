"""Night after night: only what is new is read, a changed file counts as it is now, what was refused may return."""

import json
import os
from pathlib import Path
from typing import Any

import images
import numpy as np
import pytest
from conftest import Tables, by_name, content, rows, runs, write
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pneumospark.errors import LockError, QuarantineError
from pneumospark.io.files import Store
from pneumospark.io.lock import locked
from pneumospark.io.metering import Meter
from pneumospark.io.run import FEW, check_quarantined, run
from pneumospark.io.stock import take_stock
from pneumospark.io.tables import read
from pneumospark.schemas import IMAGES, QUARANTINE
from pneumospark.tables.history import current, refused_now

TRAIN = ("--shares", "1,0,0")
GREY = images.ramp(48, 48)


def png(number: int) -> bytes:
    return images.png(GREY // 2 + number)


def same_stat(path: Path, data: bytes) -> None:
    """Other bytes of the same length and time."""
    stat = path.stat()
    assert len(data) <= stat.st_size
    path.write_bytes(data.ljust(stat.st_size, b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.spark
def test_a_run_counts_its_own_bytes_in_a_session_that_forgets(spark: SparkSession, tmp_path: Path) -> None:
    """Spark keeps the figures of the last 1,000 stages: what was read before a run leaves them while it goes on."""
    for name, count in {"before": 100_000, "of_run": 1_000}.items():
        spark.range(count).write.parquet(f"{tmp_path}/{name}")
    spark.read.parquet(f"{tmp_path}/before").agg({"id": "sum"}).collect()
    meter = Meter(spark, Path.read_bytes)
    small = spark.sparkContext._jsc.parallelize(spark._jvm.java.util.ArrayList([1]), 1)
    for _ in range(1_100):
        small.count()
    spark.read.parquet(f"{tmp_path}/of_run").agg({"id": "sum"}).collect()
    files = sum(file.stat().st_size for file in (tmp_path / "of_run").glob("*.parquet"))
    assert 0 < meter.counts()["table_bytes"] <= 2 * files


@pytest.mark.spark
def test_a_night_reads_little_more_than_its_new_files(tables: Tables, tmp_path: Path) -> None:
    """200 files of half the usual size and 2 new ones: of files just these are read, of tables the small columns."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)
    picture = {f"NORMAL/{n}.png": images.png(np.roll(noise, n), compress_level=0) for n in range(202)}
    names, size = list(picture), len(next(iter(picture.values())))
    source = write(tmp_path / "s", {name: picture[name] for name in names[:200]})
    first = tables.ingest(source)
    assert first["file_bytes"] == 200 * size
    second = tables.ingest(write(source, {name: picture[name] for name in names[200:]}))
    assert (second["known"], second["images"], second["file_bytes"]) == (200, 2, 2 * size)
    assert 0 < second["table_bytes"] < 0.022 * first["file_bytes"]


@pytest.mark.spark
def test_a_changed_file_replaces_its_row_and_may_change_back(
    tables: Tables, tmp_path: Path, spark: SparkSession
) -> None:
    source, file = write(tmp_path / "s", {"NORMAL/a.png": png(1), "NORMAL/b.png": png(9)}), tmp_path / "s/NORMAL/a.png"
    of_run = []
    for data in (png(1), png(2), png(1)):
        file.write_bytes(data)
        os.utime(file, (len(of_run), len(of_run)))
        of_run.append(tables.ingest(source, *TRAIN))
    assert [summary["replaced"] for summary in of_run] == [0, 1, 1]
    found = {row["run_id"]: row for row in rows(tables.images) if row["path"].endswith("a.png")}
    one, two, three = (found[summary["run_id"]] for summary in of_run)
    assert (one["replaces"], two["replaces"], three["replaces"]) == (None, one["image_id"], two["image_id"])
    assert one["image_id"] == three["image_id"]

    kept = {row["path"].rpartition("/")[2]: row for row in current(read(spark, str(tables.images), IMAGES)).collect()}
    assert kept["a.png"]["run_id"] == of_run[2]["run_id"] and kept["b.png"]["run_id"] == of_run[0]["run_id"]
    again = tables.ingest(source, *TRAIN)
    assert (again["known"], again["images"], again["replaced"]) == (2, 0, 0)


def live(table: Path) -> set[tuple[str, str]]:
    """Names by bytes of the rows of `prepared` that a training would learn from, and their labels."""
    void = {(row["image_id"], row["row_run_id"]) for row in rows(table / "_stale" / "rows")}
    kept = [row for row in rows(table) if (row["image_id"], row["run_id"]) not in void]
    assert len({row["image_id"] for row in kept}) == len(kept)
    return {(row["image_id"], row["label"]) for row in kept}


@pytest.mark.spark
def test_what_images_no_longer_says_is_not_learnt(tables: Tables, tmp_path: Path) -> None:
    import hashlib

    ids = [hashlib.sha256(png(n)).hexdigest() for n in range(5)]
    source = write(tmp_path / "s", {"NORMAL/0.png": png(0), "loose.png": png(1), "NORMAL/2.png": png(2)})
    write(source, {"PNEUMONIA/3.png": png(3)})

    def night(**files: bytes) -> dict[str, Any]:
        write(source, {name.replace("__", "/") + ".png": data for name, data in files.items()})
        tables.ingest(source, *TRAIN)
        return tables.extract()

    assert night()["stale"] == {}
    assert live(tables.prepared) == {(ids[0], "normal"), (ids[1], None), (ids[2], "normal"), (ids[3], "pneumonia")}
    # one file changes, one that had no label turns up with one, and one turns up under the other label, too
    second = night(NORMAL__0=png(4), PNEUMONIA__1=png(1), PNEUMONIA__2=png(2))
    assert second["stale"] == {"conflict": 1, "relabelled": 1, "replaced": 1}
    assert (second["replaced"], second["conflict"], second["wanted"]) == (1, 2, 2)
    assert live(tables.prepared) == {(ids[4], "normal"), (ids[1], "pneumonia"), (ids[3], "pneumonia")}
    again = night()
    assert (again["stale"], again["wanted"]) == ({}, 0)
    third = night(NORMAL__0=png(0))  # changed back: its first row stays void, and it is prepared anew
    assert (third["stale"], third["wanted"]) == ({"replaced": 1}, 1)
    assert live(tables.prepared) == {(ids[0], "normal"), (ids[1], "pneumonia"), (ids[3], "pneumonia")}


@pytest.mark.spark
def test_a_table_made_from_two_tables_of_images_keeps_both(tables: Tables, tmp_path: Path) -> None:
    other = Tables(tmp_path / "other")
    tables.ingest(write(tmp_path / "a", {"NORMAL/a.png": png(1)}), *TRAIN)
    other.ingest(write(tmp_path / "b", {"NORMAL/b.png": png(2)}), *TRAIN)
    tables.extract()
    assert tables.extract("--images", other.images)["stale"] == {}
    assert len(live(tables.prepared)) == 2


@pytest.mark.spark
@pytest.mark.tensorflow
def test_an_epoch_leaves_void_rows_out(tables: Tables, tmp_path: Path) -> None:
    from pneumospark.io.dataset import Feed

    names = [
        f"{split}/{label}/{n}.png" for split in ("train", "val") for label in ("NORMAL", "PNEUMONIA") for n in range(4)
    ]
    source = write(tmp_path / "s", {name: png(n) for n, name in enumerate(names)})
    tables.ingest(source)
    tables.extract()
    write(source, {"train/NORMAL/0.png": png(99)})
    tables.ingest(source)
    assert tables.extract()["stale"] == {"replaced": 1}
    assert len(rows(tables.prepared)) == 17
    stock = take_stock(f"file://{tables.prepared}", "pixels", Store())
    assert {split: census.rows for split, census in stock.census.items()} == {"train": 8, "validation": 8}
    feed = Feed(stock, "train", (48, 48, 1), Store(), 0)
    seen = {x.numpy().tobytes() for batch, _ in feed.batches(3) for x in batch}
    feed.audit()
    spec = {row["pixels"] for row in rows(tables.prepared) if (row["image_id"], row["label"]) in live(tables.prepared)}
    assert len(seen) == 8 and seen <= spec


@pytest.mark.spark
def test_quarantine_is_tried_again_when_asked_and_then_claims_no_more(
    tables: Tables, tmp_path: Path, spark: SparkSession
) -> None:
    source = write(tmp_path / "s", {"NORMAL/good.png": png(1), "NORMAL/bad.png": images.TEXT.ljust(len(png(2)) + 9)})
    tables.ingest(source)
    same_stat(source / "NORMAL/bad.png", png(2))  # as if a decoder had learnt to read it

    def refused() -> list[str]:
        taken = read(spark, str(tables.images), IMAGES)
        standing = refused_now(read(spark, str(tables.quarantine), QUARANTINE), taken)
        return [row["reason"] for row in standing.collect()]

    assert tables.ingest(source)["known"] == 2 and refused() == ["not_an_image"]
    retried = tables.ingest(source, "--retry-quarantine")
    assert (retried["known"], retried["images"], retried["quarantined"]) == (1, 1, 0)
    assert refused() == [] and set(by_name(tables.images)) == {"good.png", "bad.png"}
    before = content(tables.images)
    assert tables.ingest(source, "--retry-quarantine")["known"] == 2 and content(tables.images) == before


@pytest.mark.spark
def test_what_the_store_did_not_give_is_tried_again_by_itself(tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {"NORMAL/good.png": png(1), "NORMAL/text.png": images.TEXT})
    (source / "NORMAL/link.png").symlink_to(tmp_path / "nowhere")
    assert tables.ingest(source)["reasons"] == {"not_an_image": 1, "unreadable": 1}
    again = tables.ingest(source)
    assert (again["known"], again["reasons"]) == (2, {"unreadable": 1})


@pytest.mark.spark
def test_a_source_that_is_mostly_refused_fails_the_run_after_all_is_written(tables: Tables, tmp_path, capsys) -> None:
    source = write(tmp_path / "s", {f"NORMAL/{n}.png": png(n) for n in range(40)})
    write(source, {f"NORMAL/text{n}.png": images.TEXT for n in range(FEW)})
    assert run("ingest", lambda: tables.ingest(source)) == 3
    said = capsys.readouterr()
    assert (
        "ingest: QuarantineError: 10 of 50 new files are in quarantine, more than 5 %: {'not_an_image': 10}" in said.err
    )
    summary = json.loads(said.out.splitlines()[-1])
    assert (summary["images"], summary["quarantined"], summary["job"]) == (40, FEW, "ingest")
    assert (len(rows(tables.images)), len(rows(tables.quarantine))) == (40, FEW)
    assert run("ingest", lambda: tables.ingest(source)) == 0  # the next night is another run
    assert run("ingest", lambda: tables.ingest(source, "--retry-quarantine", "--max-quarantined", 100)) == 0


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 100), st.floats(0, 100))
def test_the_gate_goes_by_the_share_of_the_files_looked_at(good: int, bad: int, known: int, percent: float) -> None:
    counts = {"files": good + bad + known, "known": known, "quarantined": bad, "reasons": {}}
    if bad < FEW or 100 * bad <= percent * (good + bad):
        assert check_quarantined(counts, percent) is counts
    else:
        with pytest.raises(QuarantineError, match=f"{bad} of {good + bad} new files") as error:
            check_quarantined(counts, percent)
        assert error.value.counts is counts


@pytest.mark.spark
def test_a_second_run_into_the_same_table_is_refused(tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {"NORMAL/a.png": png(1)})
    with locked(f"file://{tables.images}", Store(), "ingest", print):
        with pytest.raises(LockError, match=rf"images: ingest on .*, process {os.getpid()}, writes into it since"):
            tables.ingest(source)
        assert runs(tables.images) == []
    tables.ingest(source)
    with (
        locked(f"file://{tables.prepared}", Store(), "extract", print),
        pytest.raises(LockError, match="/prepared: ext"),
    ):
        tables.extract()
    assert tables.extract()["images"] == 1


@pytest.mark.spark
def test_batches_are_bounded_by_bytes_where_rows_are_large(spark: SparkSession) -> None:
    """One row of 48 MB among rows of 4 MB: none waits with 63 others, on the way to Python and back."""
    large = spark.range(0, 40, 1, 1).selectExpr(
        "id", "cast(rpad('', if(id = 20, 48, 4) << 20, 'x') as binary) as content"
    )

    def sizes(batches):
        import pyarrow as pa

        for batch in batches:
            yield pa.RecordBatch.from_pydict({"bytes": [batch.nbytes]})

    found = [row["bytes"] >> 20 for row in large.mapInArrow(sizes, "bytes long").collect()]
    limit = int(spark.conf.get("spark.sql.execution.arrow.maxBytesPerBatch").removesuffix("m"))
    assert sum(found) == 39 * 4 + 48 and max(found) < limit + 48 <= 64 + 48
