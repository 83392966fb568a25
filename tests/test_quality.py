"""Quality: what is in a table of images is counted, and what should worry its reader is found, wherever it hides."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import images
import numpy as np
import pytest
from conftest import Tables, Way, rows, write
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pneumospark.errors import LeakError
from pneumospark.pixels.likeness import SIDE as BITS
from pneumospark.pixels.likeness import likeness
from pneumospark.synthetic import draw
from pneumospark.tables import quality
from pneumospark.tables.looks import near_duplicates, sample


def chest(number: int, pneumonia: bool = False) -> np.ndarray:
    return draw(np.random.default_rng([3, number]), pneumonia, 96)


def anew(pixels: np.ndarray, quality: int = 60) -> bytes:
    """The same picture at another size, saved as another JPEG."""
    height, width = pixels.shape
    return images.jpeg(np.asarray(Image.fromarray(pixels).resize((2 * width, 2 * height))), quality=quality)


def bits_apart(one: np.ndarray, other: np.ndarray) -> int:
    return sum((a ^ b).bit_count() for a, b in zip(likeness(one), likeness(other), strict=True))


def test_a_picture_saved_anew_is_near_itself_and_no_other_is() -> None:
    chests = [chest(number) for number in range(12)]
    again = [np.asarray(Image.open(BytesIO(anew(pixels)))) for pixels in chests]
    assert max(bits_apart(one, other) for one, other in zip(chests, again, strict=True)) <= 24
    apart = [bits_apart(chests[a], chests[b]) for a in range(12) for b in range(a)]
    assert min(apart) > 24 and len(likeness(chests[0])) == BITS
    assert all(0 <= number < 2**BITS for number in likeness(chests[0]))


def test_every_bit_of_the_hash_is_in_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import imagehash

    square = np.random.default_rng(0).random((BITS, BITS)) < 0.5
    monkeypatch.setattr(imagehash, "phash", lambda *_, **__: imagehash.ImageHash(square))
    assert sum(number.bit_count() for number in likeness(chest(1))) == square.sum()


def seen(spark: SparkSession, *hashes: tuple[str, str, list[int]]) -> Any:
    return spark.createDataFrame(list(hashes), "path string, split string, hash array<int>")


@pytest.mark.spark
def test_near_duplicates_are_pairs_of_two_splits_within_the_distance(spark: SparkSession) -> None:
    base = [7 * number for number in range(BITS)]
    flip = lambda *places: [number ^ places.count(place) for place, number in enumerate(base)]  # noqa: E731
    table = seen(
        spark,
        ("a", "train", base),
        ("b", "train", flip(0)),  # of the same split as a
        ("c", "test", flip(0, 1, 2)),  # 3 bits from a, 2 from b
        ("d", "validation", flip(*range(9))),  # 9 from a, 8 from b, 6 from c
        ("e", "test", [number ^ 1 for number in base]),  # no number in common with a, 7 with d
    )
    found = [(row["path"], row["other"], row["distance"]) for row in near_duplicates(table, 8).collect()]
    assert found == [("c", "b", 2), ("c", "a", 3), ("c", "d", 6), ("e", "d", 7), ("b", "d", 8)]
    assert near_duplicates(table, 1).count() == 0


@pytest.mark.spark
def test_a_thousand_blank_films_are_one_row(spark: SparkSession) -> None:
    blank = [0] * BITS
    table = seen(
        spark, *((f"t{n:03d}", "train", blank) for n in range(600)), ("v", "test", blank), ("w", "test", blank)
    )
    (row,) = near_duplicates(table, 0).collect()
    assert row.asDict() == {
        "path": "v",
        "other": "t000",
        "split": "test",
        "other_split": "train",
        "distance": 0,
        "images": 2,
        "others": 600,
    }


@pytest.mark.spark
def test_the_sample_is_the_same_in_any_order_and_has_both_labels_only(spark: SparkSession) -> None:
    labels = ["normal", "pneumonia", "other", None]
    every = spark.range(80).select(F.col("id").cast("string").alias("image_id"), (F.col("id") % 4).alias("n"))
    labelled = every.withColumn("label", F.element_at(F.array(*map(F.lit, labels)), (F.col("n") + 1).cast("int")))
    drawn = [row["image_id"] for row in sample(labelled, 15).collect()]
    shuffled = sample(labelled.orderBy(F.rand(1)).repartition(3), 15)
    assert [row["image_id"] for row in shuffled.collect()] == drawn and len(drawn) == 15
    assert {row["label"] for row in sample(labelled, 80).collect()} == {"normal", "pneumonia"}
    assert sample(labelled, 80).count() == 40


@pytest.mark.spark
def test_the_table_counts_every_file_once(spark: SparkSession) -> None:
    taken = [
        ("s3://b/x", "train", "normal", "i1", "p1"),
        ("s3://b/x", "train", "normal", "i1", "p1"),
        ("s3://b/x", "train", None, "i2", None),
        ("s3://b/xy", "test", "normal", "i3", "p2"),
    ]
    table = spark.createDataFrame(
        taken, "source string, split string, label string, image_id string, patient_id string"
    )
    bad = [("s3://b/x/1", "ingest", "empty"), ("s3://b/xy/1", "ingest", "empty"), ("s3://b/xy/1", "ingest", "empty")]
    bad += [("s3://gone/1", "score", "corrupt"), ("s3://b/x", "ingest", "corrupt")]
    refusals = spark.createDataFrame(bad, "path string, stage string, reason string")
    found = [tuple(row) for row in quality.composition(table, refusals).collect()]
    assert found == [
        ("s3://b/x", "train", None, None, 1, 1, 0),
        ("s3://b/x", "train", "normal", None, 2, 1, 1),
        ("s3://b/xy", "test", "normal", None, 1, 1, 1),
        (None, None, None, "score: corrupt", 1, 0, 0),
        ("s3://b/x", None, None, "ingest: corrupt", 1, 0, 0),
        ("s3://b/x", None, None, "ingest: empty", 1, 0, 0),
        ("s3://b/xy", None, None, "ingest: empty", 1, 0, 0),
    ]
    assert [tuple(row) for row in quality.composition(table, None).collect()] == found[:3]


@pytest.mark.spark
def test_the_job_on_the_corpus(ingested: Way, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = ingested.tables
    summary = tables.quality("--report", tmp_path / "q", "--quarantine", tables.quarantine, "--warn", "1")
    files = len(rows(tables.images)) + sum(row["stage"] == "ingest" for row in rows(tables.quarantine))
    assert (summary["files"], summary["near_duplicates"], summary["warnings"]) == (files, 0, [])
    said = capsys.readouterr().out
    assert "ingest: truncated" in said and said.splitlines()[0].split()[:4] == ["source", "split", "label", "error"]
    assert said.splitlines()[-1].split() == ["sum", str(files), str(len({r["image_id"] for r in rows(tables.images)}))]
    report = json.loads((tmp_path / "q/quality.json").read_text())
    assert sum(row["files"] for row in report["table"]) == files
    assert report["leaks"] == {"patient_id": {"count": 0, "first": []}, "image_id": {"count": 0, "first": []}}
    assert report["shortcuts"]["images"] == 32 and report["shortcuts"]["patients"] == 12
    page = (tmp_path / "q/index.html").read_text()
    assert "0 values of patient_id are in more than one split." in page and page.count("<img") == 1
    assert Image.open(tmp_path / "q/shortcuts.png").size[0] > 600


@pytest.mark.spark
def test_the_job_finds_a_near_duplicate_and_a_shortcut(tables: Tables, tmp_path: Path) -> None:
    """Pneumonia is saved at quality 30 and normal at 95, and one normal image is in test as well, made anew."""
    source = tmp_path / "s"
    for n in range(24):
        split, label = ("train", "test")[n % 2], ("NORMAL", "PNEUMONIA")[n // 2 % 2]
        quality = 95 if label == "NORMAL" else 30
        write(source, {f"{split}/{label}/synthetic{n:04d}-1.jpeg": images.jpeg(chest(n), quality=quality)})
    write(source, {"test/NORMAL/synthetic0099-1.jpeg": anew(chest(0), 95)})
    tables.ingest(source)
    summary = tables.quality("--warn", "0.9", "--quarantine", tables.quarantine)  # nothing was refused: no such table
    assert summary["near_duplicates"] == 1 and "length" in summary["warnings"]
    report = json.loads((tables.report / "quality.json").read_text())
    (pair,) = report["near_duplicates"]["first"]
    assert {Path(pair[name]).stem for name in ("path", "other")} == {"synthetic0000-1", "synthetic0099-1"}
    assert {pair["split"], pair["other_split"]} == {"train", "test"} and pair["distance"] <= 24
    assert "synthetic0099-1.jpeg" in (tables.report / "index.html").read_text()
    quick = tables.quality("--near", "-1", "--sample", "10", "--warn", "0.9")
    assert quick["near_duplicates"] is None
    assert json.loads((tables.report / "quality.json").read_text())["shortcuts"]["images"] == 10


@pytest.mark.spark
def test_a_leak_is_reported_and_fails_the_job(tables: Tables, tmp_path: Path) -> None:
    one, two = "train/NORMAL/synthetic0001-1.png", "test/NORMAL/synthetic0001-2.png"
    source = write(tmp_path / "s", {one: images.png(chest(1)), two: images.png(chest(2))})
    with pytest.raises(LeakError, match="1 values of patient_id"):
        tables.ingest(source)
    with pytest.raises(LeakError, match=r"1 values of patient_id are in more than one split, .* See file:.*index.html"):
        tables.quality()
    report = json.loads((tables.report / "quality.json").read_text())
    assert report["leaks"]["patient_id"]["first"] == [{"patient_id": "synthetic0001", "splits": ["test", "train"]}]
    assert report["shortcuts"] is None and "Not audited" in (tables.report / "index.html").read_text()
